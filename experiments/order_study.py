"""Does it matter that the images come in another order each epoch?

A study of our own, beyond the post: Keras' `fit` after a seed was set goes through the images in the same order every
epoch, which most scripts that set one for the sake of repeatable runs do without knowing.
"""

from dataclasses import replace

from fashion_cnn.claims import Higher, Lower
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

LATE = "After 20 epochs a frozen order has a higher test loss and a lower accuracy than a fresh one"
EARLY = "After 10 epochs, too, a frozen order has a higher test loss and a lower accuracy than a fresh one"

STUDY = Study(
    name="order_study",
    question="What does the same order of the images in every epoch change against a fresh one?",
    arms={
        f"{order} order, {epochs} epochs": replace(CNN, epochs=epochs, order=order)
        for epochs in (10, 20)
        for order in ("fresh", "frozen")
    },
    claims=(
        Higher("test_loss", "frozen order, 20 epochs", than="fresh order, 20 epochs", says=LATE, source="ours"),
        Lower("test_accuracy", "frozen order, 20 epochs", than="fresh order, 20 epochs", says=LATE, source="ours"),
        Higher("test_loss", "frozen order, 10 epochs", than="fresh order, 10 epochs", says=EARLY, source="ours"),
        Lower("test_accuracy", "frozen order, 10 epochs", than="fresh order, 10 epochs", says=EARLY, source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
