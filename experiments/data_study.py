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
NEEDED = '"We probably need more data": 60,000 images do better than 30,000'
SAME_STEPS = "60,000 images do better than 30,000 after the same number of steps, too"
MIRRORS = "Mirror images help"
MIRRORS_ALONE = "Mirror images help after the same number of steps, too"

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
            margin=0.005,
            says=NEEDED,
            note="Equal epochs: 60,000 images take twice the steps. What helps up to 60,000 need not help beyond.",
        ),
        Lower("test_loss", ALL, than=HALF, says=NEEDED),
        Higher(
            "test_accuracy",
            ALL,
            than=HALF_STEPS,
            margin=0.005,
            says=SAME_STEPS,
            source="ours",
            note="Equal steps: 10 epochs of 60,000 images, 20 of 30,000.",
        ),
        Lower("test_loss", ALL, than=HALF_STEPS, says=SAME_STEPS, source="ours"),
        Higher(
            "test_accuracy",
            MIRRORED,
            than=ALL,
            says=MIRRORS,
            source="ours",
            note="Equal epochs: with mirror images twice the steps. A mirror image is no new garment.",
        ),
        Lower("test_loss", MIRRORED, than=ALL, says=MIRRORS, source="ours"),
        Higher(
            "test_accuracy",
            MIRRORED_STEPS,
            than=ALL,
            says=MIRRORS_ALONE,
            source="ours",
            note="Equal steps: 5 epochs with mirror images, 10 without.",
        ),
        Lower("test_loss", MIRRORED_STEPS, than=ALL, says=MIRRORS_ALONE, source="ours"),
    ),
)

if __name__ == "__main__":
    main(STUDY)
