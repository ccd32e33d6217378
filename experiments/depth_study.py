"""What does the number of convolutions change, in accuracy, loss and time?

Without padding each pair of convolution and pooling leaves less than half a side: 28-26-13-11-5-3-1, so two
additional convolutions fit and no third. With padding (ours, beyond the post) three fit.
"""

from dataclasses import replace

from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

STUDY = Study(
    name="depth_study",
    question="What do fewer or more convolutions change against one additional one?",
    arms={
        "0 additional convolutions": replace(CNN, additional_convolutions=0),
        "1 additional convolution": CNN,
        "2 additional convolutions": replace(CNN, additional_convolutions=2),
        "1 additional convolution, same padding": replace(CNN, padding="same"),
        "3 additional convolutions, same padding": replace(CNN, additional_convolutions=3, padding="same"),
    },
)

if __name__ == "__main__":
    main(STUDY)
