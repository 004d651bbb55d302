"""What can be said about a clip, in English and in Chinese, and how to read it back.

A caption names the identity and the aspect, never the life. Each aspect has several phrasings in both languages; the
model is trained on all of them, sheets may use any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from demo.world.clips import ASPECTS, COLOURS, IDENTITIES, SHAPES, Identity

if TYPE_CHECKING:
    import numpy as np

CHINESE_SHAPES: Final = {"circle": "圆圈", "square": "方块", "triangle": "三角", "star": "星星", "heart": "爱心"}
CHINESE_COLOURS: Final = {
    "red": "红色",
    "yellow": "黄色",
    "green": "绿色",
    "teal": "青色",
    "blue": "蓝色",
    "purple": "紫色",
}

# {it} is the identity. The first phrasing of each is the one that sheets and measurements use.
ENGLISH: Final[dict[str, tuple[str, ...]]] = {
    "still": ("{it} stays still", "{it}", "{it} rests and does nothing"),
    "left": ("{it} moves to the left", "{it} slides left", "{it} drifts leftwards"),
    "right": ("{it} moves to the right", "{it} slides right", "{it} drifts rightwards"),
    "up": ("{it} moves up", "{it} rises", "{it} floats upwards"),
    "down": ("{it} moves down", "{it} sinks", "{it} floats downwards"),
    "grows": ("{it} grows", "{it} gets bigger", "{it} becomes large"),
    "shrinks": ("{it} shrinks", "{it} gets smaller", "{it} becomes small"),
    "brightens": ("{it} while the light brightens", "{it}, the light gets brighter", "{it} as it becomes bright"),
    "darkens": ("{it} while the light darkens", "{it}, the light gets darker", "{it} as it becomes dark"),
    "blinks": ("{it} closes its eyes", "{it} falls asleep", "{it} with its eyes closing"),
    "talks": ("{it} opens its mouth", "{it} says oh", "{it} with its mouth opening wide"),
}
CHINESE: Final[dict[str, tuple[str, ...]]] = {
    "still": ("{it}静止不动", "{it}", "{it}在休息"),
    "left": ("{it}向左移动", "{it}往左滑"),
    "right": ("{it}向右移动", "{it}往右滑"),
    "up": ("{it}向上移动", "{it}升起来"),
    "down": ("{it}向下移动", "{it}沉下去"),
    "grows": ("{it}变大", "{it}越来越大"),
    "shrinks": ("{it}变小", "{it}越来越小"),
    "brightens": ("{it}，光线变亮", "{it}，天亮了"),
    "darkens": ("{it}，光线变暗", "{it}，天黑了"),
    "blinks": ("{it}闭上眼睛", "{it}睡着了"),
    "talks": ("{it}张开嘴", "{it}说哦"),
}


def name(identity: Identity, *, chinese: bool = False) -> str:
    """The identity alone: `a red star`, `一个红色的星星`."""
    if chinese:
        return f"一个{CHINESE_COLOURS[identity.colour]}的{CHINESE_SHAPES[identity.shape]}"
    return f"a {identity.colour} {identity.shape}"


def caption(identity: Identity, aspect: str, *, phrasing: int = 0, chinese: bool = False) -> str:
    """One caption; `phrasing` picks among those of the aspect."""
    phrasings = (CHINESE if chinese else ENGLISH)[aspect]
    return phrasings[phrasing % len(phrasings)].format(it=name(identity, chinese=chinese))


def any_caption(identity: Identity, aspect: str, rng: np.random.Generator) -> str:
    """A caption in any language and phrasing, three English ones for each Chinese one."""
    return caption(identity, aspect, phrasing=int(rng.integers(6)), chinese=bool(rng.integers(4) == 0))


def all_captions(identity: Identity, aspect: str) -> tuple[str, ...]:
    """Every caption of an identity doing an aspect."""
    return tuple(
        phrasing.format(it=name(identity, chinese=chinese))
        for chinese, phrasings in ((False, ENGLISH[aspect]), (True, CHINESE[aspect]))
        for phrasing in phrasings
    )


def read_caption(text: str) -> tuple[Identity, str]:
    """The identity and aspect that a caption of this world names.

    Raises:
        ValueError: the text is no caption of this world.
    """
    for shape in SHAPES:
        for colour in COLOURS:
            identity = Identity(shape=shape, colour=colour)
            if name(identity) in text or name(identity, chinese=True) in text:
                for aspect in ASPECTS:
                    if text in all_captions(identity, aspect):
                        return identity, aspect
    raise ValueError(f"{text!r} is no caption of the demo world; see demo/world/captions.py for those that are")


def every_caption() -> list[str]:
    """All that the tokenizer must know: each caption of each identity, trained or held out."""
    return [text for identity in IDENTITIES for aspect in ASPECTS for text in all_captions(identity, aspect)]
