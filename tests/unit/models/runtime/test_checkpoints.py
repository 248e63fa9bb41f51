from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.runtime import checkpoints
from models.runtime.checkpoints import Checkpoint, CheckpointError, fit_key, tensors


def trained(steps: int, network: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> None:
    for _ in range(steps):
        batch = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
        optimizer.zero_grad()
        nn.functional.dropout(network(batch), 0.5).square().mean().backward()
        optimizer.step()


def test_a_fit_that_goes_on_from_its_state_ends_with_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole, rng = nn.Linear(3, 4), np.random.default_rng(5)
    adam = torch.optim.AdamW(whole.parameters(), lr=0.1)
    trained(5, whole, adam, rng)
    state = {"network": whole.state_dict(), "optimizer": adam.state_dict(), "rng": rng.bit_generator.state}
    Checkpoint(tmp_path).save("train", {**state, "torch": torch.get_rng_state()})
    trained(5, whole, adam, rng)

    found = Checkpoint(tmp_path).load("train")
    assert found is not None
    other, again = nn.Linear(3, 4), np.random.default_rng(0)
    adam = torch.optim.AdamW(other.parameters(), lr=0.9)
    other.load_state_dict(tensors(found["network"]))
    adam.load_state_dict(tensors(found["optimizer"]))
    again.bit_generator.state = found["rng"]
    torch.set_rng_state(tensors(found["torch"]))
    trained(5, other, adam, again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_state_comes_back_as_it_was_given(tmp_path: Path) -> None:
    state = {
        "epoch": 3, "best": -np.inf, "loss": 0.1, "name": "ä", "none": None, "yes": True, "big": 2**127 + 1,
        "curve": [{"epoch": 1.0}, {}], "betas": (0.9, 0.999), "by number": {0: {"step": np.float32(2)}},
        "table": np.arange(6, dtype=np.int32).reshape(2, 3), "scalar": torch.tensor(4.0), "empty": np.empty((0, 5)),
    }  # fmt: skip
    Checkpoint(tmp_path).save("a stage", state)
    found = Checkpoint(tmp_path).load("a stage")
    assert found is not None
    arrays = {name: found.pop(name) for name in ("table", "scalar", "empty")}
    assert found == {name: value for name, value in state.items() if name not in arrays}
    np.testing.assert_array_equal(arrays["table"], state["table"])
    assert arrays["table"].dtype == np.int32
    assert arrays["scalar"].shape == ()
    assert arrays["empty"].shape == (0, 5)


def test_the_latest_state_replaces_the_one_before_and_stages_are_apart(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path)
    for epoch in (1, 2):
        kept.save("first", {"epoch": epoch})
    kept.save("second", {"epoch": 7})
    assert kept.load("first") == {"epoch": 2}
    assert kept.load("second") == {"epoch": 7}
    assert kept.load("third") is None


def test_a_kill_while_a_state_is_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoint(tmp_path)
    kept.save("train", {"weights": np.zeros(1_000)})

    def cut_off(stream: object, **_: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.np, "savez", cut_off)
        with pytest.raises(KeyboardInterrupt):
            kept.save("train", {"weights": np.ones(1_000)})
    found = kept.load("train")
    assert found is not None
    assert not found["weights"].any()
    kept.save("train", {"weights": np.ones(1_000)})
    assert [file.name for file in tmp_path.iterdir()] == ["train.npz"]


def test_without_a_folder_nothing_is_kept() -> None:
    nowhere = Checkpoint.of(None, "key")
    nowhere.save("train", {"epoch": 1})
    assert nowhere.load("train") is None
    nowhere.remove()


def test_fits_in_one_folder_do_not_meet_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    one, other = (Checkpoint.of(tmp_path, fit_key(["neumf", seed])) for seed in (1, 2))
    one.save("train", {"seed": 1})
    other.save("train", {"seed": 2})
    assert one.load("train") == {"seed": 1}
    one.remove()
    assert one.load("train") is None
    assert other.load("train") == {"seed": 2}


def test_a_key_tells_data_apart_by_their_content() -> None:
    data = np.arange(6, dtype=np.int32)
    assert fit_key([data]) == fit_key([data.copy()])
    others = [data + 1, data.astype(np.int64), data.reshape(2, 3), data[::-1], "neumf"]
    assert len({fit_key([other]) for other in [data, *others]}) == 6


def test_a_broken_file_and_another_schema_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoint(tmp_path)
    (tmp_path / "train.npz").write_bytes(b"PK no")
    with pytest.raises(CheckpointError, match=r"train\.npz: is no state"):
        kept.load("train")
    monkeypatch.setattr(checkpoints, "SCHEMA_VERSION", 99)
    kept.save("train", {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="schema version 99"):
        kept.load("train")


def test_what_only_a_pickle_could_hold_is_refused(tmp_path: Path) -> None:
    for value in (object(), {1.5: "a"}, np.array([object()])):
        with pytest.raises(CheckpointError, match="a state"):
            Checkpoint(tmp_path).save("train", {"value": value})
