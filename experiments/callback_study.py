"""Does stopping at a training loss save anything against a fixed number of epochs?"""

from dataclasses import replace

from fashion_cnn.claims import Equivalent, Lower, NotTested, Stops
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

STOP, TEN = "stop at loss 0.19", "10 epochs"
SAME = "Stopping at a training loss of 0.19 does about as well as 10 epochs"

STUDY = Study(
    name="callback_study",
    question="Does stopping below a training loss of 0.19 do as well as 10 epochs, and what does it save?",
    arms={STOP: replace(CNN, epochs=100, callback_loss=0.19), TEN: CNN},
    claims=(
        Stops(
            STOP,
            before=10,
            says="The callback ends the training before epoch 10",
            note="The post's message names epoch 6, counted from 0; the line below it is that of the seventh.",
        ),
        Equivalent("test_accuracy", STOP, TEN, within=0.005, says=SAME),
        Equivalent("test_loss", STOP, TEN, within=0.02, says=SAME),
        Equivalent(
            "epochs_trained",
            STOP,
            TEN,
            within=0.5,
            says='Stopping "didn\'t save much"',
            note="Much is taken to be more than half of the 10 epochs; the post saved 3.",
        ),
        NotTested(
            'It is "a way to stop without guessing the number of epochs"',
            why="It is a judgement: the loss to stop at has to be guessed instead.",
        ),
        Lower("fit_cpu_seconds", STOP, than=TEN, says="Stopping saves training time", source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
