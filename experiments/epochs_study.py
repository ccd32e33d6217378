"""How long is it worth training?

The four arms of one seed are one trajectory of 20 epochs, cut at four places.
"""

from dataclasses import replace

from fashion_cnn.claims import Equivalent, Higher, Lower
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

FIVE = "After 5 epochs loss and accuracy are still improving"
TEN = 'After 10 epochs "it\'s still learning"'
HELPS = "What it learns after 10 epochs helps on the test images: more accurate, with a lower loss"
FIFTEEN = "After 15 epochs it has started to overfit: as accurate as after 10, with a higher test loss"
TWENTY = "After 20 epochs it might be overfitting: the test loss rises further, the training loss falls"
BOTH_DOWN = 'From 15 to 20 epochs "both the loss and the accuracy went down a little"'

STUDY = Study(
    name="epochs_study",
    question="What do 10, 15 and 20 epochs change against 5, and when does the network overfit?",
    arms={f"{n} epochs": replace(CNN, epochs=n) for n in (5, 10, 15, 20)},
    claims=(
        Lower("loss", "10 epochs", than="5 epochs", says=FIVE),
        Higher("accuracy", "10 epochs", than="5 epochs", says=FIVE),
        Lower("loss", "15 epochs", than="10 epochs", says=TEN),
        Higher("accuracy", "15 epochs", than="10 epochs", says=TEN),
        Higher("test_accuracy", "15 epochs", than="10 epochs", says=HELPS, source="ours"),
        Lower("test_loss", "15 epochs", than="10 epochs", says=HELPS, source="ours"),
        Higher(
            "test_accuracy",
            "10 epochs",
            than="5 epochs",
            says="10 epochs are more accurate than 5",
            source="ours",
        ),
        Equivalent("test_accuracy", "15 epochs", "10 epochs", within=0.005, says=FIFTEEN),
        Higher("test_loss", "15 epochs", than="10 epochs", says=FIFTEEN),
        Higher("test_loss", "20 epochs", than="15 epochs", says=TWENTY),
        Lower("loss", "20 epochs", than="15 epochs", says=TWENTY),
        Lower(
            "test_loss",
            "20 epochs",
            than="15 epochs",
            says=BOTH_DOWN,
            note="The post's own numbers contradict it: it prints 0.34 and 0.45, and 0.91 both times.",
        ),
        Lower("test_accuracy", "20 epochs", than="15 epochs", says=BOTH_DOWN),
    ),
)

if __name__ == "__main__":
    main(STUDY)
