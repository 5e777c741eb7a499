"""Policies as models in MLflow: logged, registered, and found again where a kill or a deletion left them incomplete.

A learner has a model for each training, AGENT-SCENARIO-SEED; the best by validation score of each agent and scenario has the alias
``best`` in the registry. Any other agent has one, AGENT, which takes hosts of as many VMs as the study's scenarios have. Each
carries the wheel of the code that made it and names it in its requirements, so it loads in a fresh environment (``pip install -r
requirements.txt`` in the model's folder). What sees the hidden state is no model, and a policy is logged only where the command
itself chose the agent: what a study from elsewhere names is not imported.
"""

import json
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import hvgym
from hvgym.bench.identity import digest_of_text, outside_roots
from hvgym.bench.logged import example_rows, model_class
from hvgym.bench.recording import Experiment
from hvgym.bench.store import path_of
from hvgym.bench.wheel import make_wheel

BEST = "best"
"""Alias of the version with the best validation score."""

GROUND = "ground"
"""Tag of a version: digest of what it was validated on; versions of different grounds are not compared."""


def policy_model(agent: Mapping[str, Any]) -> Any:
    """An agent as an MLflow python model: rows are successive readings of one host, the answer one row of sizes per
    reading.
    """
    import mlflow

    return model_class(mlflow.pyfunc.PythonModel)(agent)


def model_name(*parts: Any) -> str:
    """A name that MLflow takes, of agent, scenario and seed."""
    return re.sub(r"[/:.%\"']", "_", "-".join(map(str, parts)))


class Models:
    """The logged models of an experiment."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._wheel: tuple[str, bytes] | None = None
        self._plain = dict[tuple[int, int], dict[str, bytes]]()
        self._whole = dict[str, str]()

    def find(self, runs: Collection[str], gone: Collection[str] = ()) -> None:
        """Look which of these runs have their model; what a kill left half written, or whose files or run are gone, is deleted.
        gone: those of these runs that were deleted, to be made anew."""
        self._whole = {}
        token: str | None = None
        while token != "":
            search = self._experiment.client.search_logged_models
            page = self._experiment.call(search, [self._experiment.id], max_results=500, page_token=token)
            token = page.token or ""
            for model in (one for one in page if one.source_run_id in runs):
                kept = str(model.status) == "READY" and model.source_run_id not in gone
                if kept and self._experiment.model_lies_there(model, "MLmodel"):
                    self._whole[model.source_run_id] = model.model_id
                else:
                    self._experiment.call(self._experiment.client.delete_logged_model, model.model_id)

    def of(self, run_id: str) -> str | None:
        """The model that a run made, by id."""
        return self._whole.get(run_id)

    def log(
        self, run_id: str, name: str, agent: Mapping[str, Any], vms: tuple[int, int], checkpoint: Path | None = None
    ) -> str:
        """Log an agent's policy as the model of a run, for hosts with so many VMs (least, most); its id."""
        return str(self._experiment.call(self._log, run_id, name, agent, vms, checkpoint))

    def _log(
        self, run_id: str, name: str, agent: Mapping[str, Any], vms: tuple[int, int], checkpoint: Path | None
    ) -> str:
        from mlflow.entities import LoggedModelOutput

        client, tags = self._experiment.client, {"agent": agent["name"]}
        made = client.create_logged_model(self._experiment.id, name, run_id, model_type="policy", tags=tags)
        ids = {"@place@": made.artifact_location, "@run@": run_id, "@model@": made.model_id}
        files = self._files(agent, vms, checkpoint, ids)
        if made.artifact_location.startswith("file:"):
            _write(files, path_of(made.artifact_location))
        else:
            with tempfile.TemporaryDirectory(prefix="hvgym-model-") as folder:
                _write(files, Path(folder))
                client.log_model_artifacts(made.model_id, folder)
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
        client.finalize_logged_model(made.model_id, "READY")  # last: without it the model is taken for half written
        self._whole[run_id] = made.model_id
        return str(made.model_id)

    def _files(
        self, agent: Mapping[str, Any], vms: tuple[int, int], checkpoint: Path | None, ids: Mapping[str, str]
    ) -> dict[str, bytes]:
        """The files of a model. MLflow takes half a second to make them, and those of policies that need no files of their own
        differ in the policy and in ids alone, so these are made once."""
        import cloudpickle

        roots = [str(root) for root in outside_roots(agent)]
        if checkpoint or roots:
            files = self._saved(agent, vms, checkpoint, roots)
        else:
            if vms not in self._plain:
                self._plain[vms] = self._saved(agent, vms, None, [])
            files = self._plain[vms] | {"python_model.pkl": cloudpickle.dumps(policy_model(agent))}
        text = files["MLmodel"].decode()
        for mark, value in ids.items():
            text = text.replace(mark, value)
        return files | {"MLmodel": text.encode()}

    def _saved(
        self, agent: Mapping[str, Any], vms: tuple[int, int], checkpoint: Path | None, roots: list[str]
    ) -> dict[str, bytes]:
        """The files as MLflow makes them, with marks in the place of ids."""
        import mlflow
        from mlflow.models import Model

        own = [checkpoint, checkpoint.with_suffix(".json")] if checkpoint else []
        artifacts = {key: str(file) for key, file in zip(("checkpoint", "meta"), own, strict=False) if file.exists()}
        with tempfile.TemporaryDirectory(prefix="hvgym-model-") as folder:
            wheel = self._put_wheel(Path(folder))
            mlflow.pyfunc.save_model(
                f"{folder}/model",
                python_model=policy_model(agent),
                artifacts=artifacts or None,
                code_paths=[*([str(wheel)] if wheel else []), *roots] or None,
                mlflow_model=Model("@place@", "@run@", model_uuid="@model@", model_id="@model@"),
                signature=_signature(*vms),
                input_example=example_rows(vms[1]),
                pip_requirements=[f"code/{wheel.name}" if wheel else f"hvgym=={hvgym.__version__}"],
            )
            found = [path for path in Path(folder, "model").rglob("*") if path.is_file()]
            return {path.relative_to(f"{folder}/model").as_posix(): path.read_bytes() for path in found}

    def _put_wheel(self, folder: Path) -> Path | None:
        """The wheel in a folder; it is made once."""
        if self._wheel is None:
            made = make_wheel(folder)
            if made is not None:
                self._wheel = made.name, made.read_bytes()
            return made
        wheel = folder / self._wheel[0]
        wheel.write_bytes(self._wheel[1])
        return wheel

    def register(self, name: str, run_id: str, key: str, score: float, ground: str) -> None:
        """Make the model of a run a version of a registered model, once, and the best of its ground the one with the alias."""
        self._experiment.call(self._register, name, run_id, key, score, ground)

    def _register(self, name: str, run_id: str, key: str, score: float, ground: str) -> None:
        from mlflow.exceptions import MlflowException

        client, model_id = self._experiment.client, self._whole[run_id]
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        versions = [one for one in client.search_model_versions(f"name = '{name}'") if one.tags.get("hvgym.job") == key]
        for old in [one for one in versions if one.model_id != model_id]:  # its model was deleted
            client.delete_model_version(name, old.version)
        if not any(one.model_id == model_id for one in versions):
            tags = {"hvgym.job": key, GROUND: ground, "validation_goodput": repr(score)}
            client.create_model_version(name, f"models:/{model_id}", run_id, tags, model_id=model_id)
        rivals = [one for one in client.search_model_versions(f"name = '{name}'") if one.tags.get(GROUND) == ground]
        best = max(rivals, key=lambda one: (float(one.tags["validation_goodput"]), -int(one.version)))
        client.set_registered_model_alias(name, BEST, best.version)


def _signature(least: int, most: int) -> Any:
    """Readings in, sizes out; columns of VMs beyond the least are optional."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    example = example_rows(most)
    sizes = [f"vm{v}.target_mib" for v in range(most)]

    def needed(column: str) -> bool:
        found = re.match(r"vm(\d+)\.", column)
        return found is None or int(found[1]) < least

    inputs = [ColSpec(DataType.double, column, required=needed(column)) for column in example.columns]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, column) for column in sizes]))


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def checkpoint_of(folder: Path, model: str | None, agent: Mapping[str, Any]) -> Path | None:
    """The network that a policy plays with: that of a training in a study's folder, or the one that its configuration names."""
    if model is not None:
        return folder / model
    return Path(agent["checkpoint"]) if agent.get("checkpoint") else None


def vms_of(scenarios: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Fewest and most VMs of these scenarios."""
    counts = [sum(int(group["count"]) for group in scenario["vms"]) for scenario in scenarios]
    return min(counts), max(counts)


def ground_of(played: Any, validation_seeds: int, sources: Mapping[str, str]) -> str:
    """Of what a network was validated on: scenario (or a list of them), number of seeds, and the package's code."""
    return digest_of_text(json.dumps([played, validation_seeds, sources.get("code", "")], sort_keys=True))
