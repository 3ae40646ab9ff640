"""What a long-lived process tells the garbage collector once it is up."""

import gc

# Containers made and not freed before the young ones are looked at; the default of 700 is a few requests.
YOUNG_OBJECTS = 20_000


def settle() -> None:
    """Leave what start-up made out of every later collection: it lives as long as the process, and is most of what there is.

    A router that is busy spent a quarter of its time looking through it again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
