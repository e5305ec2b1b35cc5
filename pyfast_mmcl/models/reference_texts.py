"""Sentences about everyday things: what a CLIP model is asked about when it is to stay as it was."""

from __future__ import annotations

from pyfast_mmcl.models.zero_shot import SEVERAL

# Things that can be drawn or photographed, from many corners and from no data set.
NOUNS = (
    "apple anchor arrow axe baby ball balloon banana barn basket bear bed bee bell bench bicycle bird boat book boot "
    "bottle bowl box boy branch bread bridge broom brush bucket bus butterfly button cabin cactus cage cake camel "
    "camera candle canoe car carpet carrot castle cat cave chain chair cheese cherry chicken church circle city clock "
    "cloud coat coin comb cow crab crown cup curtain desk dog doll door dragon dress drum duck eagle ear egg elephant "
    "engine envelope eye face farm feather fence field finger fire fish flag flower foot forest fork fountain fox "
    "frog fruit garden gate ghost giraffe girl glass glove goat grape grass guitar hammer hand harbour hat heart "
    "helmet hill honey hook horse house ice island jacket jar jug kettle key kite kitten knife ladder lake lamb lamp "
    "leaf lemon letter lighthouse lion lizard lock machine man map market mask mirror monkey moon motorcycle mountain "
    "mouse mouth mushroom nail necklace nest net number nut ocean onion orange oven owl painting palace paper parrot "
    "pear pen pencil penguin piano pig pillow plane plant plate pond potato pumpkin queen rabbit rain rainbow ring "
    "river road robot rocket roof room rope rose sandwich scarf school scissors sea shark sheep shell ship shirt shoe "
    "shop sign skeleton snail snake snow sock sofa spider spoon square squirrel star station stone street suitcase "
    "sun swan symbol table tent tiger tomato tower toy train tree triangle truck trumpet turtle umbrella vase village "
    "violin volcano wagon wall watch water whale wheel whistle window wolf woman worm wreath yard zebra"
).split()


def reference_texts() -> list[str]:
    """Every noun in one of the sentences of ``SEVERAL``, in turn."""
    return [SEVERAL[i % len(SEVERAL)].format(noun) for i, noun in enumerate(NOUNS)]
