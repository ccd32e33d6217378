"""Does stopping at a training loss save anything against a fixed number of epochs?"""

from dataclasses import replace

from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

STUDY = Study(
    name="callback_study",
    question="Does stopping below a training loss of 0.19 do as well as 10 epochs, and what does it save?",
    arms={"stop at loss 0.19": replace(CNN, epochs=100, callback_loss=0.19), "10 epochs": CNN},
)

if __name__ == "__main__":
    main(STUDY)
