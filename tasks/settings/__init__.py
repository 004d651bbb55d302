"""The settings of a batch: one frozen tree, validated once at the door, read by every task.

YAML in conf/ chooses, this package defines. A key that stands here with no YAML has its default from here. Whatever
changes a result goes into a recipe through `tasks.planning.recipes`; everything else here never changes a key.
"""

from tasks.settings.judging import GuardSettings, InflectionSettings
from tasks.settings.places import SheetSettings, StoreSettings
from tasks.settings.results import AccelSettings, ModelSettings, PriorSettings, ScheduleSettings, VideoSettings
from tasks.settings.running import RunnerSettings, ServerSettings
from tasks.settings.state import state_dir
from tasks.settings.tree import MAX_SEED, Settings

__all__ = [
    "MAX_SEED",
    "AccelSettings",
    "GuardSettings",
    "InflectionSettings",
    "ModelSettings",
    "PriorSettings",
    "RunnerSettings",
    "ScheduleSettings",
    "ServerSettings",
    "Settings",
    "SheetSettings",
    "StoreSettings",
    "VideoSettings",
    "state_dir",
]
