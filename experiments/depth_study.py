"""What does the number of convolutions change, in accuracy, loss and time?

Without padding each pair of convolution and pooling leaves less than half a side: 28-26-13-11-5-3-1, so two
additional convolutions fit and no third. With padding (ours, beyond the post) three fit.
"""

from dataclasses import replace

from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

NONE, ONE, TWO = "0 additional convolutions", "1 additional convolution", "2 additional convolutions"
ONE_SAME, THREE_SAME = f"{ONE}, same padding", "3 additional convolutions, same padding"
FEWER = "Without the additional convolution it is a little more accurate, with a little more test loss"
MORE = "A second additional convolution without padding lowers the accuracy and raises the loss"
PADDED = "With padding, three additional convolutions lower the accuracy against one, and raise the loss"

STUDY = Study(
    name="depth_study",
    question="What do fewer or more convolutions change against one additional one?",
    arms={
        NONE: replace(CNN, additional_convolutions=0),
        ONE: CNN,
        TWO: replace(CNN, additional_convolutions=2),
        ONE_SAME: replace(CNN, padding="same"),
        THREE_SAME: replace(CNN, additional_convolutions=3, padding="same"),
    },
    claims=(
        Higher(
            "test_accuracy",
            NONE,
            than=ONE,
            says=FEWER,
            note='The post adds "once again", but of 64 filters it has just said that the accuracy is the same.',
        ),
        Higher("test_loss", NONE, than=ONE, says=FEWER),
        NotTested("More data is probably needed", why="No arm trains on more or fewer images."),
        # What the exercises ask and the post leaves open.
        Lower("fit_cpu_seconds", NONE, than=ONE, says="Without it, training takes less time", source="ours"),
        Lower("test_accuracy", TWO, than=ONE, says=MORE, source="ours"),
        Higher("test_loss", TWO, than=ONE, says=MORE, source="ours"),
        Higher("fit_cpu_seconds", TWO, than=ONE, says="A second one makes training longer", source="ours"),
        Lower("test_accuracy", THREE_SAME, than=ONE_SAME, says=PADDED, source="ours"),
        Higher("test_loss", THREE_SAME, than=ONE_SAME, says=PADDED, source="ours"),
        Equivalent(
            "test_accuracy", ONE_SAME, ONE, within=0.005, says="Padding alone changes no accuracy", source="ours"
        ),
    ),
)

if __name__ == "__main__":
    main(STUDY)
