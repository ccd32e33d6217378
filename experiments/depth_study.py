"""What does the number of convolutions change, in accuracy, loss and time?

Without padding each pair of convolution and pooling leaves less than half a side: 28-26-13-11-5-3-1, so two
additional convolutions fit and no third. With padding (ours, beyond the post) three fit.
"""

from dataclasses import replace

from fashion_cnn.claims import Equivalent, Higher, Lower
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

NONE, ONE, TWO = "0 additional convolutions", "1 additional convolution", "2 additional convolutions"
ONE_SAME, THREE_SAME = f"{ONE}, same padding", "3 additional convolutions, same padding"
FEWER = "Without the additional convolution it is a little more accurate, with a little more test loss"
AS_FAST = "In all, training takes about as long with 0, 1 or 2 additional convolutions"
MORE = "A second additional convolution without padding lowers the accuracy and raises the loss"
PADDED = "With padding, three additional convolutions are less accurate than one, with a lower loss"

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
            note='"Once again", it says; but of 64 filters it said "the same".',
        ),
        Higher("test_loss", NONE, than=ONE, says=FEWER),
        # What the exercises ask and the post leaves open.
        Equivalent("fit_cpu_seconds", NONE, ONE, within=0.1, says=AS_FAST, source="ours"),
        Equivalent("fit_cpu_seconds", TWO, ONE, within=0.1, says=AS_FAST, source="ours"),
        Lower("test_accuracy", TWO, than=ONE, says=MORE, source="ours"),
        Higher("test_loss", TWO, than=ONE, says=MORE, source="ours"),
        Lower("test_accuracy", THREE_SAME, than=ONE_SAME, says=PADDED, source="ours"),
        Lower("test_loss", THREE_SAME, than=ONE_SAME, says=PADDED, source="ours"),
        Higher("test_accuracy", ONE_SAME, than=ONE, says="Padding alone raises the accuracy", source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
