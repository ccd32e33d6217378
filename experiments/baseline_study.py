"""Does a small convolutional network beat a dense one with half the training?

The post trains the dense network for ten epochs and the convolutional one for five.
"""

from dataclasses import replace

from fashion_cnn.cli import main
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.study import Study

STUDY = Study(
    name="baseline_study",
    question="Does a small convolutional network after 5 epochs beat a dense one after 10?",
    arms={"dense": replace(DENSE, epochs=10), "cnn": replace(CNN, epochs=5)},
)

if __name__ == "__main__":
    main(STUDY)
