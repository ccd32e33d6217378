"""What does the number of filters change, in accuracy, loss and time?"""

from dataclasses import replace

from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

STUDY = Study(
    name="filter_study",
    question="What do 16 or 64 filters change against 32?",
    arms={f"{n} filters": replace(CNN, filters=n) for n in (16, 32, 64)},
)

if __name__ == "__main__":
    main(STUDY)
