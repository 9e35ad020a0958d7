"""Several processes train the model that one process with the whole batch trains."""

import json
import sys
from datetime import timedelta

import pytest
import tiny_training as tiny
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from nbcore import launch
from nbcore.distributed import gather, sync_batchnorm
from nbcore.errors import UserError

W, B = 2, 3  # processes, rows of each


class Network(nn.Module):
    """BatchNorm in every flavour, and a loss that couples all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 2)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None)])
        self.linear = nn.Linear(16, 5)
        self.output = nn.BatchNorm1d(5, affine=False)
        self.temperature = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):  # (B, 2, 3, 3)
        x = self.convolution(x)
        for norm in self.norms:
            x = norm(x).relu()
        z = gather(F.normalize(self.output(self.linear(x.flatten(1))), dim=1))  # (W B, 5)
        return F.cross_entropy(z @ z.T.roll(1, 0) / self.temperature, torch.arange(len(z)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().double()


def rows() -> torch.Tensor:
    return torch.randn(W * B, 2, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(4)) * 3 + 1


def measure(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Loss, gradients and buffers after two passes, as one flat dictionary."""
    for _ in range(2):
        model.zero_grad()
        loss = model(x)
        loss.backward()
    gradients = {f"gradient of {name.removeprefix('module.')}": p.grad for name, p in model.named_parameters()}
    buffers = {name.removeprefix("module."): buffer for name, buffer in model.named_buffers()}
    return {"loss": loss.detach(), **gradients, **buffers}


def measure_in_a_group(directory) -> None:
    """One rank's part of the comparison."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    rank = dist.get_rank()
    model = nn.parallel.DistributedDataParallel(sync_batchnorm(network()))
    torch.save(measure(model, rows()[rank * B : (rank + 1) * B]), directory / f"{rank}.pt")
    order = gather(torch.tensor([[rank, 10 * rank]]))
    assert order.tolist() == [[0, 0], [1, 10]]
    dist.destroy_process_group()


def test_two_processes_give_the_loss_gradients_and_statistics_of_one(tmp_path):
    assert tiny.in_processes(measure_in_a_group, tmp_path, ranks=W) == [0, 0]
    alone = measure(network(), rows())
    assert alone["gradient of convolution.weight"].abs().max() > 1e-3
    for rank in range(W):
        together = torch.load(tmp_path / f"{rank}.pt")
        assert together.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(
                together[name], expected, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_alone_nothing_changes():
    x = rows()
    assert gather(x) is x
    plain, converted = measure(network(), x), measure(sync_batchnorm(network()), x)
    assert plain.keys() == converted.keys()
    assert all(torch.equal(plain[name], converted[name]) for name in plain)
    again = sync_batchnorm(sync_batchnorm(network())).eval()
    assert torch.equal(again(x), network().eval()(x))


def test_a_batchnorm_with_more_to_it_is_refused():
    class BatchNormAct(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(UserError, match=r"Layer '1', a BatchNormAct, cannot be synchronised"):
        sync_batchnorm(nn.Sequential(nn.Conv2d(1, 1, 1), BatchNormAct(1)))


def test_fit_in_two_processes_is_exact_when_killed(tmp_path):
    """Dropout and augmentation on, so the random state of each process counts."""
    for name, events in {"undisturbed": [], "killed": [5, 17, 22]}.items():
        settings = {"processes": 2, "batch_size": 2}
        for event in events:
            assert set(tiny.in_processes(kill_main, tmp_path / name, event, ranks=2, **settings)) != {0}
        assert tiny.in_processes(tiny.run, tmp_path / name, ranks=2, **settings) == [0, 0]
    killed, undisturbed = (load_file(tmp_path / name / "weights.safetensors") for name in ["killed", "undisturbed"])
    assert all(torch.equal(killed[name], undisturbed[name]) for name in undisturbed)


def kill_main(directory, event, **changes) -> None:
    """The main process, the only one that writes, dies at its `event`-th sync or rename; the others lose their peer."""
    tiny.run_until(directory, event, **changes)


def stopped_fit(path) -> None:
    """What a launched process does, up to a user's mistake in its third step."""
    raise SystemExit(launch.main(path))


@pytest.mark.slow
def test_launched_processes_resume_and_equal_one_with_their_batches(tmp_path, capsys):
    two = {"directory": str(tmp_path / "two"), "processes": 2, "batch_size": 2, "epochs": 1}
    (tmp_path / "job.json").write_text(
        json.dumps({"builder": "tiny_training:job", "arguments": {**two, "stop_after": 5}})
    )
    assert tiny.in_processes(stopped_fit, tmp_path / "job.json", ranks=2) == [1, 1]
    assert torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["step"] == 2
    method, history = launch.train("tiny_training:job", two)
    assert "5/5" in capsys.readouterr().out
    one = {"directory": str(tmp_path / "one"), "processes": 1, "batch_size": 4, "epochs": 1}
    alone, history_alone = launch.train("tiny_training:job", one)
    assert len(history) == len(history_alone) == 5
    for name, expected in history_alone.values.items():
        assert history.values[name] == pytest.approx(expected, rel=1e-4), name
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(method.state_dict()[name], expected, rtol=1e-4, atol=1e-6)


def test_a_launched_process_says_what_went_wrong(tmp_path, capsys):
    arguments = {"directory": str(tmp_path), "processes": 1, "batch_size": 4, "stop_after": 1}
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"builder": "tiny_training:job", "arguments": arguments}))
    assert launch.main(str(job)) == 1
    assert capsys.readouterr().out.endswith("error: The disk is full: free some space.\n")
    job.write_text(json.dumps({"builder": "tiny_training:absent", "arguments": {}}))
    assert launch.main(str(job)) == 1
    assert capsys.readouterr().out == "error: AttributeError: module 'tiny_training' has no attribute 'absent'\n"


def test_a_failed_launch_repeats_the_processes_sentence_and_spares_the_launchers_traceback(capsys):
    output = r"print('step 1\nerror: Column view is missing.\nTraceback of the launcher\nerror: later'); exit(1)"
    with pytest.raises(UserError, match=r"^Training in several processes failed: Column view is missing\.$"):
        launch._run([sys.executable, "-c", output], environment={})
    assert capsys.readouterr().out == "step 1\n"
    with pytest.raises(UserError, match=r"failed: ValueError: nothing said$"):
        launch._run([sys.executable, "-c", "raise ValueError('nothing said')"], environment={})
