"""What do fewer or more images to train on change?

The post ends a comparison with the guess that more data is needed. There are no more images, so the question is asked
downwards: do 60,000 do better than fewer? With fewer images an epoch has fewer steps, so each number of images is
trained for ten epochs, and for as many steps as 60,000 images have in ten. Both arms of a number are one trajectory,
cut at two places. The seed draws the images; smaller sets lie in larger ones. Mirror images are the data that cost
nothing: each image and its mirror image, every epoch.
"""

from dataclasses import replace

from fashion_cnn.claims import Higher, Lower
from fashion_cnn.cli import main
from fashion_cnn.config import CNN
from fashion_cnn.study import Study

ALL, MIRRORED = "60,000 images", "60,000 images and their mirror images"
HALF, HALF_STEPS, MIRRORED_STEPS = "30,000 images", "30,000 images, equal steps", f"{MIRRORED}, equal steps"
EPOCHS = "Twice the images do better after equal epochs, 10 of each"
STEPS = "Twice the images do better after equal steps, 18,750 of each"
MIRROR = "Mirror images make the network better after equal steps"

FEWER = {n: replace(CNN, training_images=n) for n in (7_500, 15_000, 30_000)}
MIRROR_CNN = replace(CNN, augmentation="mirror")

STUDY = Study(
    name="data_study",
    question="What do fewer images to train on change, or mirror images besides, at equal epochs and at equal steps?",
    arms={
        **{f"{n:,} images": config for n, config in FEWER.items()},
        ALL: CNN,
        MIRRORED: MIRROR_CNN,
        **{f"{n:,} images, equal steps": replace(config, epochs=600_000 // n) for n, config in FEWER.items()},
        MIRRORED_STEPS: replace(MIRROR_CNN, epochs=5),
    },
    claims=(
        Higher(
            "test_accuracy",
            ALL,
            than=HALF,
            says=EPOCHS,
            source="ours",
            note='The post: "we probably need more data". With half the images an epoch has half the steps, so this '
            "compares twice the training, too.",
        ),
        Lower("test_loss", ALL, than=HALF, says=EPOCHS, source="ours"),
        Higher("test_accuracy", ALL, than=HALF_STEPS, says=STEPS, source="ours", note="The same guess."),
        Lower("test_loss", ALL, than=HALF_STEPS, says=STEPS, source="ours"),
        Higher("test_accuracy", MIRRORED_STEPS, than=ALL, says=MIRROR, source="ours"),
        Lower("test_loss", MIRRORED_STEPS, than=ALL, says=MIRROR, source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
