"""Where a batch reads and writes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tasks.secrets import secrets_in
from tasks.settings.group import Group


class SheetSettings(Group):
    """How a prompt sheet is read, and what it may reach."""

    path: str | None = Field(
        None, description="file or URL of the sheet; `-` = standard input, `demo` = the one that ships"
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "yaml", "parquet"] = Field("auto", description="auto = by file name")
    identities: str | None = Field(None, description="a second file with the columns of the identities")
    allow_roots: tuple[str, ...] = Field(
        (), description="folders or URL prefixes that images and videos may come from, besides the sheet's own folder"
    )
    allow_http: bool = Field(False, description="allow http(s) images and videos")
    max_image_pixels: int = Field(40_000_000, gt=0, description="larger images are refused before they are decoded")
    max_video_pixels: int = Field(10_000_000, gt=0, description="videos with larger frames are refused")
    max_video_frames: int = Field(10_000, gt=0, description="videos of more frames are refused, however few are wanted")
    max_video_seconds: float = Field(600.0, gt=0, description="longer videos are refused")
    max_all_video_pixels: int = Field(
        4_000_000_000,
        gt=0,
        description="of the frames of all videos together, in the sizes that are made of them; a sheet with more is refused",
    )
    max_rows: int = Field(100_000, gt=0, description="more rows than this after expansion are refused")
    ignore_unknown: bool = Field(False, description="ignore unknown columns, with a note; otherwise they are refused")


class StoreSettings(Group):
    """Where priors, variants and the manifest lie."""

    url: str = Field("headstart-store", description="folder or fsspec URL (s3://bucket/prefix, memory://name)")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options (endpoint, profile); secrets only in the environment"
    )
    verify_hashes: bool = Field(True, description="check the sha256 of every file that is read")
    verify: Literal["size", "full"] = Field(
        "size",
        description="what is counted on: objects whose files are there in their sizes, or (`full`) with the right sha256",
    )

    @field_validator("storage_options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        # The resolved tree is kept with every batch, so a secret in here would end up on disk.
        found = list(secrets_in(value))
        if found:
            raise ValueError(
                f"storage option {', '.join(map(repr, found))} looks like a secret; set it in the environment (AWS_* variables, a profile), not in the settings"
            )
        return value
