"""What does the number of filters change, in accuracy, loss and time?"""

from dataclasses import replace

from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

SMALLER = "16 filters are a little worse than 32 in loss and accuracy"
LARGER = "64 filters are as accurate as 32, with a slightly higher loss"
FASTER = "The fewer filters, the less time training takes"

STUDY = Study(
    name="filter_study",
    question="What do 16 or 64 filters change against 32?",
    arms={f"{n} filters": replace(CNN, filters=n) for n in (16, 32, 64)},
    claims=(
        Higher("test_loss", "16 filters", than="32 filters", says=SMALLER),
        Lower("test_accuracy", "16 filters", than="32 filters", says=SMALLER),
        Equivalent("test_accuracy", "64 filters", "32 filters", within=0.005, says=LARGER),
        Higher("test_loss", "64 filters", than="32 filters", says=LARGER),
        NotTested(
            "One should start with 32 filters rather than 64", why="It is advice; what it rests on is tested above."
        ),
        # The exercise asks for the training time, too; the post prints it and says nothing about it.
        Lower(
            "fit_cpu_seconds",
            "16 filters",
            than="32 filters",
            says=FASTER,
            source="ours",
            note="The post prints 17 s an epoch for 16 filters, 16 s for 32 and 18 s for 64.",
        ),
        Lower("fit_cpu_seconds", "32 filters", than="64 filters", says=FASTER, source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
