"""How long is it worth training?

The four arms of one seed are one trajectory of 20 epochs, cut at four places.
"""

from dataclasses import replace

from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

STUDY = Study(
    name="epochs_study",
    question="What do 10, 15 and 20 epochs change against 5, and when does the network overfit?",
    arms={f"{n} epochs": replace(CNN, epochs=n) for n in (5, 10, 15, 20)},
)

if __name__ == "__main__":
    main(STUDY)
