"""Runs from end to end: real processes, a real store, a made-up data set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import STUDIES
from fashion_cnn.config import CNN
from fashion_cnn.data import load
from fashion_cnn.environment import machine
from fashion_cnn.evidence.record import EPOCH_METRICS, RECORD_FORMAT, RUN_METRICS, Record
from fashion_cnn.running.plan import plan, select_runs
from fashion_cnn.sample import sample_places
from fashion_cnn.store.description import NOTE, signed
from fashion_cnn.store.entries import Sent
from tests.support.command import Lab

RUNS = sum(len(study.arms) for study in STUDIES)
ARTIFACTS = {
    "config.json",
    "environment.json",
    "requirements.txt",
    "trajectory.json",
    "model_summary.txt",
    "per_class.json",
    "predictions.npz",
    "hashes.json",
    "figures",
    "images",
}
FIGURES = {"confusion_matrix.png", "learning_curves.png", "mistakes.png"}
CNN_FIGURES = {"feature_maps.png", "all_channels.png"}
LAYERS = ("convolution_1", "pooling_1", "convolution_2", "pooling_2")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Lab, str]:
    """A lab in which all studies were run once, and what was printed."""
    lab = Lab(tmp_path_factory.mktemp("studies"), data)
    return lab, lab.call_process("run", "--smoke", "--seeds", 1)


class TestTheStudies:
    def test_a_run_of_each_arm_is_recorded_and_finished(self, studies: tuple[Lab, str]) -> None:
        runs = studies[0].runs()
        assert len(runs) == RUNS
        assert set(runs["status"]) == {"FINISHED"}

    def test_each_study_is_an_experiment_that_opens_in_the_model_training_view(self, studies: tuple[Lab, str]) -> None:
        experiments = {one.name: one for one in studies[0].store().client.search_experiments()}
        for study in STUDIES:
            assert experiments[study.name].tags["mlflow.experimentKind"] == "custom_model_development"
            assert experiments[study.name].tags[NOTE] == signed(study.question)

    def test_arms_of_other_images_differ_and_keep_the_identity_of_the_data(self, studies: tuple[Lab, str]) -> None:
        runs = studies[0].runs("data_study", "split_study", "epochs_study").set_index(["study", "arm"])
        assert runs["data_sha256"].nunique() == 1
        numbers = [f"{images} images" for images in ("7,500", "15,000", "30,000", "60,000")]
        arms = [("data_study", arm) for arm in (*numbers, "60,000 images and their mirror images")]
        of_images = runs.loc[[*arms, ("split_study", "10 epochs"), ("epochs_study", "5 epochs")]]
        assert of_images["weights_sha256"].nunique() == of_images["loss"].nunique() == len(arms) + 1
        assert runs.loc[("data_study", "60,000 images"), "weights_sha256"] == of_images.iloc[-1]["weights_sha256"]
        assert of_images["test_loss"].nunique() == len(arms) + 1

    def test_images_per_second_are_those_that_an_epoch_goes_through(self, studies: tuple[Lab, str]) -> None:
        for row in studies[0].runs("data_study").to_dict("records"):
            mirrored = 2 if row["augmentation"] == "mirror" else 1
            images = 330 * int(row["training_images"]) // 60_000 * mirrored  # of the made-up set
            epochs = studies[0].json_artifact(row["run_id"], "trajectory.json")["epochs"]
            assert epochs[-1]["images_per_second"] * epochs[-1]["epoch_seconds"] == pytest.approx(images)

    def test_feature_maps_are_of_the_same_images_whatever_a_run_is_trained_and_tested_on(
        self, studies: tuple[Lab, str]
    ) -> None:
        def untrained(changes: Mapping[str, Any]) -> dict[str, bytes]:
            """The sheets of the default network before its first epoch."""
            settings = {**CNN.training_settings(), **changes}
            (found,) = (one for one in studies[0].trajectories() if one.header.settings == settings)
            return {path.name: path.read_bytes() for path in found.sheets()[0]}

        given = untrained({})
        assert len(given) == len(LAYERS)
        assert untrained({"split": "drawn"}) == untrained({"augmentation": "mirror"}) == given

    def test_a_drawn_split_is_tested_on_its_own_images(self, studies: tuple[Lab, str], data: Path) -> None:
        lab, made_up = studies[0], load(data)
        for row in lab.runs("split_study").to_dict("records"):
            config = Record(row, [], {}).config()
            assert config is not None
            _, tested = sample_places(config, 0, len(made_up.train_labels), len(made_up.test_labels))
            labels = np.concatenate([made_up.train_labels, made_up.test_labels])[tested]
            table = lab.json_artifact(row["run_id"], "per_class.json")
            images = [answers[table["columns"].index("images")] for answers in table["data"]]
            assert images == np.bincount(labels, minlength=10).tolist()
            assert images != np.bincount(made_up.test_labels, minlength=10).tolist()

    def test_params_give_the_config_back(self, studies: tuple[Lab, str]) -> None:
        for row in studies[0].runs().to_dict("records"):
            config = Record(row, [], {}).config()
            assert config is not None and config.sha256() == row["config_sha256"]
            assert int(row["parameters"]) > 0

    def test_every_epoch_has_every_metric_from_step_one_on(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        runs = lab.runs()
        epochs = lab.store().epochs(list(runs["run_id"]))
        assert not epochs[list(EPOCH_METRICS)].isna().any().any()
        for row in runs.to_dict("records"):
            mine = epochs[epochs["run_id"] == row["run_id"]]
            assert list(mine["epoch"]) == list(range(1, int(row["epochs_trained"]) + 1))
        assert not runs[list(RUN_METRICS)].isna().any().any()

    def test_the_store_holds_what_the_trajectory_file_holds(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        row = lab.runs("baseline_study").iloc[0]
        kept = lab.json_artifact(row["run_id"], "trajectory.json")
        epochs = lab.store().epochs([row["run_id"]])
        for epoch, values in zip(epochs.to_dict("records"), kept["epochs"], strict=True):
            assert all(epoch[name] == values[name] for name in EPOCH_METRICS)
        assert kept["epochs"][-1]["weights_sha256"] == row["weights_sha256"]

    def test_the_machine_that_trained_a_run_is_described_beside_its_identity(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        environment = lab.json_artifact(lab.runs("baseline_study").iloc[0]["run_id"], "environment.json")
        here = machine()
        assert environment["machine"].keys() == here.keys()
        assert environment["machine"]["processor"] == here["processor"]
        assert "load" not in environment["fingerprint"]

    def test_duration_is_the_time_of_training_and_evaluation(self, studies: tuple[Lab, str]) -> None:
        for row in studies[0].runs().to_dict("records"):
            shown = (row["end_time"] - row["start_time"]) / 1000
            assert shown == pytest.approx(row["fit_seconds"] + row["evaluate_seconds"], abs=0.002)

    def test_runs_of_one_trajectory_share_it_and_count_each_epoch_once(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        for _, shared in lab.runs().groupby("trajectory_sha256"):
            trained = shared["epochs_trained"].max()
            assert (shared["epochs_trained"] - shared["reused_epochs"]).sum() == trained
        shared = lab.runs().groupby("trajectory_sha256")["weights_sha256"].agg(["size", "nunique"])
        planned = plan(select_runs(STUDIES, smoke=True)).trajectories
        assert sorted(shared["size"]) == sorted(len(each.runs) for each in planned)
        assert set(shared["nunique"]) == {1}

    def test_tags_tell_everything_of_the_contract(self, studies: tuple[Lab, str]) -> None:
        runs = studies[0].runs()
        hashes = ("config", "trajectory", "data", "code", "weights", "environment")
        for name in hashes:
            assert runs[f"{name}_sha256"].str.fullmatch("[0-9a-f]{64}").all()
        for name in ("git_commit", "git_dirty", "workers", "node", "heartbeat"):
            assert runs[name].notna().all()
        assert set(runs["record_format"]) == {str(RECORD_FORMAT)} and set(runs["arithmetic"]) <= {"portable", "native"}
        assert set(runs["smoke"]) == {"true"} and set(runs["reuse"]) == {"on"}
        assert set(runs["stop_reason"]) == {"epochs"}
        assert (runs["name"] == runs["arm"] + " · seed " + runs["seed"] + " · smoke").all()

    def test_artifacts_are_those_of_the_contract(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        for row in lab.runs("baseline_study").to_dict("records"):
            names = {item.path for item in lab.store().client.list_artifacts(row["run_id"])}
            expected = ARTIFACTS | ({"activations.npz"} if row["model"] == "cnn" else set())
            assert names - {"code.diff"} == expected

    def test_every_run_has_its_figures_and_no_drawing_failed(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        assert lab.runs()["drawing_error"].isna().all()
        for row in lab.runs("baseline_study").to_dict("records"):
            names = {Path(item.path).name for item in lab.store().client.list_artifacts(row["run_id"], "figures")}
            assert names == FIGURES | (CNN_FIGURES if row["model"] == "cnn" else set())

    def test_feature_maps_stand_in_the_image_grid_once_a_layer_and_epoch(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        for row in lab.runs("filter_study").to_dict("records"):
            assert lab.images(row["run_id"]) == {(layer, step): 1 for layer in LAYERS for step in (0, 1, 2)}

    def test_the_summary_of_the_network_counts_the_parameters_of_each_layer(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        (row,) = lab.runs("baseline_study").query("arm == 'cnn'").to_dict("records")
        lines = lab.artifact(row["run_id"], "model_summary.txt").read_text(encoding="utf-8").splitlines()
        assert [line.split()[-2] for line in lines if re.search(r"^│ \w+ \(", line)] == [
            "320", "0", "9,248", "0", "0", "102,528", "1,290"
        ]  # fmt: skip
        assert any("Param #" in line for line in lines) and any("Trainable params: 113,386 " in line for line in lines)

    def test_feature_maps_are_enlarged_without_blur(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        folder = lab.artifact(lab.runs("filter_study")["run_id"].iloc[0], "images")
        sheet = np.asarray(Image.open(next(folder.glob("feature_maps~pooling_2+step+2+*.png"))))
        assert max(sheet.shape[:2]) >= 512
        assert len(np.unique(sheet.reshape(-1, 3), axis=0)) <= 5 * 5 * 64 + 1  # no colours but those of the maps

    def test_the_table_per_class_adds_up(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        row = lab.runs("baseline_study").iloc[0]
        saved = lab.json_artifact(row["run_id"], "per_class.json")
        table = pd.DataFrame(saved["data"], columns=saved["columns"])
        answered = table[[name for name in table if name.startswith("answered")]].to_numpy()
        assert table["images"].sum() == answered.sum() == 64
        assert np.trace(answered) / 64 == pytest.approx(row["test_accuracy"])

    def test_the_logged_model_loads_with_mlflow_and_answers_as_recorded(
        self, studies: tuple[Lab, str], data: Path, engine: None
    ) -> None:
        import mlflow

        lab, _ = studies
        row = lab.runs("baseline_study").iloc[0]
        outputs = lab.store().client.get_run(row["run_id"]).outputs
        assert outputs is not None
        mlflow.set_tracking_uri(lab.uri)
        model = mlflow.keras.load_model(f"models:/{outputs.model_outputs[0].model_id}")
        images = load(data)
        answers = model.predict(images.test_images[..., None] / 255, verbose=0).argmax(axis=1)
        assert (answers == images.test_labels).mean() == pytest.approx(row["test_accuracy"])

    def test_a_second_call_trains_nothing(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        before = lab.runs()
        printed = lab.call("run", "--smoke")
        assert f"{RUNS} runs were recorded already" in printed
        pd.testing.assert_frame_equal(before, lab.runs())

    def test_smoke_runs_decide_no_claim(self, studies: tuple[Lab, str]) -> None:
        printed = studies[0].call("claims", "epochs_study")
        assert "0 of 4 recorded runs are taken; left out: smoke run (4)." in printed
        told = json.loads(studies[0].call("claims", "--json"))
        assert [one["study"] for one in told["studies"]] == [study.name for study in STUDIES]
        verdicts = {sentence["verdict"] for one in told["studies"] for sentence in one["sentences"]}
        assert verdicts == {"too few seeds", "not tested"}
        assert told["post"]["test_results"]["compared"] == 0

    def test_the_closing_table_lists_each_run(self, studies: tuple[Lab, str]) -> None:
        for study in STUDIES:
            for arm in study.arms:
                assert any(study.name in line and arm in line for line in studies[1].splitlines())

    @pytest.mark.thorough
    def test_without_reuse_and_with_one_worker_the_weights_are_the_same(
        self, studies: tuple[Lab, str], tmp_path: Path, data: Path
    ) -> None:
        lab = Lab(tmp_path, data)
        lab.call("run", "epochs_study", "--arms", "5 epochs", "20 epochs", "--smoke", "--no-reuse", "--workers", 1)
        runs = lab.runs()
        assert len(runs) == 2 and set(runs["reuse"]) == {"off"} and (runs["reused_epochs"] == 0).all()
        shared = studies[0].weights()
        assert all(shared[key] == weights for key, weights in lab.weights().items())

    def test_sending_runs_again_changes_nothing(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        ids = list(lab.runs()["run_id"])
        before, epochs = lab.runs(), lab.store().epochs(ids)
        again = [
            (trajectory, record)
            for trajectory in lab.trajectories()
            for record in trajectory.runs()
            if record.study in ("baseline_study", "split_study")  # both networks; a trajectory that runs share
        ]
        for trajectory, record in again:
            trajectory.save_sent(record, Sent(run_id=trajectory.sent(record).run_id))
        assert f"{len(again)} runs sent" in lab.call("sync")
        changing = ["heartbeat"]
        pd.testing.assert_frame_equal(before.drop(columns=changing), lab.runs().drop(columns=changing))
        pd.testing.assert_frame_equal(epochs, lab.store().epochs(ids))
        assert all(set(lab.images(run_id).values()) <= {1} for run_id in ids)
        histories = [len(lab.store().client.get_metric_history(run_id, "loss")) for run_id in ids]
        assert histories == list(before["epochs_trained"].astype(int))

    def test_a_send_that_lost_its_note_finds_the_run_it_made(self, studies: tuple[Lab, str]) -> None:
        lab, _ = studies
        before = set(lab.runs()["run_id"])
        trajectory = lab.trajectories()[0]
        for path in (trajectory.folder / "runs").glob("*.sent.json"):
            path.unlink()
        lab.call("sync")
        assert set(lab.runs()["run_id"]) == before

    def test_a_report_of_smoke_runs_only_says_so(self, studies: tuple[Lab, str], tmp_path: Path) -> None:
        lab, _ = studies
        said = lab.call("report", "filter_study", "--output", tmp_path / "made" / "report.html")
        assert "opens in any browser without a network" in said
        page = (tmp_path / "made" / "report.html").read_text(encoding="utf-8")
        assert "smoke" in page and "filter_study" in page and "epochs_study" not in page

    def test_list_and_export_tell_every_run(self, studies: tuple[Lab, str], tmp_path: Path) -> None:
        lab, _ = studies
        assert {row["run_id"] for row in json.loads(lab.call("list", "--json"))["runs"]} == set(lab.runs()["run_id"])
        lab.call("export", "filter_study", "--output", tmp_path)
        assert len(pd.read_csv(tmp_path / "runs.csv")) == 3
        assert len(pd.read_csv(tmp_path / "epochs.csv")) == 6


class TestWhatIsRecordedAlready:
    def test_another_seed_or_arm_is_not(self, tmp_path: Path, data: Path) -> None:
        lab = Lab(tmp_path, data)
        lab.call("train", "--model", "dense", "--epochs", 1, "--name", "a")
        assert "0 are recorded" in lab.call("train", "--model", "dense", "--epochs", 1, "--name", "b", "--dry-run")
        assert "0 are recorded" in lab.call(
            "train", "--model", "dense", "--epochs", 1, "--name", "a", "--seed", 1, "--dry-run"
        )
        assert "the run was recorded" in lab.call(
            "train", "--model", "dense", "--epochs", 1, "--name", "a", "--dry-run"
        )

    def test_a_made_up_data_set_never_counts_as_real(self, tmp_path: Path, data: Path) -> None:
        lab = Lab(tmp_path, data)
        lab.call("train", "--model", "dense", "--epochs", 1)
        assert set(lab.runs()["smoke"]) == {"true"}

    def test_a_dry_run_records_nothing(self, tmp_path: Path, data: Path) -> None:
        lab = Lab(tmp_path, data)
        printed = lab.call("run", "--dry-run")
        trajectories = len(plan(select_runs(STUDIES)).trajectories)
        assert f"{RUNS} runs to record from {trajectories} trajectories; 0 are recorded already." in printed
        assert lab.runs().empty and not lab.trajectories()
        planned = lab.call("run", "baseline_study", "--dry-run", "--smoke").splitlines()
        assert [line.split("\t")[3:5] for line in planned if "baseline_study: " in line] == [
            ["2", "22"]
        ] * 2  # 330 images
