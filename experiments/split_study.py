"""Do the verdicts hold for other images?

All other studies are tested on the 10,000 images that come with the data set. Here each seed draws its own 60,000
training and 10,000 test images from all 70,000, so that runs differ by the images as well as by the seed (Bouthillier
et al. 2021, arXiv 2103.03098).
"""

from dataclasses import replace

from fashion_cnn.claims import Higher, Lower
from fashion_cnn.cli import main
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.study import Study

NONE = "0 additional convolutions"
BEATS = "On drawn images, too, the CNN after 5 epochs beats the dense network after 10"
LEARNS = "On drawn images, too, the network goes on learning after 5 epochs"
FEWER = "On drawn images, too, it is more accurate without the additional convolution, with more test loss"

STUDY = Study(
    name="split_study",
    question="Do the verdicts hold where each seed draws its own training and test images?",
    arms={
        "dense": replace(DENSE, split="drawn"),
        "5 epochs": replace(CNN, split="drawn", epochs=5),
        "10 epochs": replace(CNN, split="drawn"),
        NONE: replace(CNN, split="drawn", additional_convolutions=0),
    },
    claims=(
        Higher("test_accuracy", "5 epochs", than="dense", says=BEATS, source="ours"),
        Lower("test_loss", "5 epochs", than="dense", says=BEATS, source="ours"),
        Lower("loss", "10 epochs", than="5 epochs", says=LEARNS, source="ours"),
        Higher("test_accuracy", "10 epochs", than="5 epochs", says=LEARNS, source="ours"),
        Higher("test_accuracy", NONE, than="10 epochs", says=FEWER, source="ours"),
        Higher("test_loss", NONE, than="10 epochs", says=FEWER, source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
