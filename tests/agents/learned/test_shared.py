"""The network that all VMs share: permuting VMs permutes actions, padding changes nothing, and it plays without torch as it
trained."""

import numpy as np
import pytest
import torch

from hvgym.agents.learned.actor import Actor, Memory
from hvgym.agents.learned.network import arrays_of
from hvgym.agents.learned.noise import HeldVmNoise, SquashedVmNoise, VmNoise
from hvgym.agents.learned.shared import Head, Latent, Layout, RecurrentLatent, Value

HOST, VM, VMS = 3, 5, 6
LAYOUT = Layout(HOST, VM, VMS, channels=2)
FORMS = [(0, False), (8, False), (8, True)]


def observed(lanes=7, vms=4, places=VMS, seed=0):
    """Of hosts with so many VMs, in so many places."""
    rng = np.random.default_rng(seed)
    own = np.zeros((lanes, places, VM), np.float32)
    own[:, :vms] = rng.uniform(0, 1, (lanes, vms, VM))
    own[:, :vms, 0] = 1.0
    host = rng.uniform(0, 1, (lanes, HOST)).astype(np.float32)
    return np.concatenate([host, own.reshape(lanes, -1)], axis=1)


def network(width, attention, layout=LAYOUT):
    torch.manual_seed(1)
    latent = Latent(layout, width, attention)
    head = Head(latent.size, layout, 0.1)
    with torch.no_grad():
        head.linear.weight.mul_(100.0)  # so that what it sees shows
    return latent, head


def answers(latent, head, observations):
    with torch.no_grad():
        found = head(latent(torch.as_tensor(observations))).numpy()
    return found.reshape(len(found), LAYOUT.channels, -1)


def permuted(observations, order):
    own = observations[:, HOST:].reshape(len(observations), -1, VM)[:, order]
    return np.concatenate([observations[:, :HOST], own.reshape(len(own), -1)], axis=1)


@pytest.mark.parametrize(("width", "attention"), FORMS)
def test_permuting_vms_permutes_their_actions_and_leaves_the_value(width, attention):
    latent, head = network(width, attention)
    value = Value(latent.size, VMS, 8)
    order, seen = np.array([4, 2, 0, 5, 1, 3]), observed()
    before, after = answers(latent, head, seen), answers(latent, head, permuted(seen, order))
    assert after == pytest.approx(before[:, :, order], abs=1e-6)
    assert after != pytest.approx(before, abs=1e-3)
    with torch.no_grad():
        worth = [value(latent(torch.as_tensor(one))) for one in (seen, permuted(seen, order))]
    assert torch.allclose(worth[0], worth[1], atol=1e-6)


@pytest.mark.parametrize(("width", "attention"), FORMS)
def test_padding_changes_nothing_and_does_nothing(width, attention):
    """Weights know no number of VMs: the same ones serve a layout of four."""
    latent, head = network(width, attention)
    padded = answers(latent, head, observed())
    small = Layout(HOST, VM, 4, channels=2)
    fewer = Latent(small, width, attention), Head(latent.size, small, 0.0)
    for one, other in zip(fewer, (latent, head), strict=True):
        one.load_state_dict(other.state_dict())
    assert padded[:, :, :4] == pytest.approx(answers(*fewer, observed(places=4)), abs=1e-6)
    assert not padded[:, :, 4:].any()
    dirty = observed()
    dirty[:, HOST + 4 * VM + 1 : HOST + 5 * VM] = 9.0  # of a place without a VM, all but `present`
    assert answers(latent, head, dirty) == pytest.approx(padded, abs=1e-6)


@pytest.mark.parametrize(("width", "attention"), FORMS)
def test_without_torch_it_answers_the_same_and_a_lane_does_not_depend_on_others(width, attention):
    latent, head = network(width, attention)
    seen = observed(places=4)
    theirs = np.clip(answers(*_of(4, latent, head, width, attention), seen), -1.0, 1.0)
    actor, features = Actor(arrays_of(latent, head), squashed=False), seen_by_vm(seen, 4)
    ours = actor.act(features, Memory())
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert actor.act(features[2:3], Memory()).tobytes() == ours[2:3].tobytes()


def _of(vms, latent, head, width, attention):
    layout = LAYOUT._replace(vms=vms)
    parts = Latent(layout, width, attention), Head(latent.size, layout, 0.0)
    for one, other in zip(parts, (latent, head), strict=True):
        one.load_state_dict(other.state_dict())
    return parts


def seen_by_vm(observations, vms):
    own = observations[:, HOST:].reshape(len(observations), vms, VM)
    host = np.broadcast_to(observations[:, None, :HOST], (len(own), vms, HOST))
    return np.concatenate([own, host], axis=-1).astype(np.float64)


def test_a_recurrent_network_remembers_each_vm_by_itself_and_plays_as_it_trained():
    torch.manual_seed(2)
    layout = Layout(HOST, VM, 4, channels=1)
    latent = RecurrentLatent(layout, 8)
    head = Head(8 + layout.seen, layout, 0.0)
    with torch.no_grad():
        head.linear.weight.mul_(100.0)
    times = np.stack([observed(3, 4, 4, seed) for seed in range(5)])
    order, state = [2, 0, 3, 1], (torch.zeros(1, 3, 32), torch.zeros(1, 3, 32))
    with torch.no_grad():
        whole = head(latent(torch.as_tensor(times), state)[0]).numpy()
        mixed = head(latent(torch.as_tensor(np.stack([permuted(one, order) for one in times])), state)[0]).numpy()
    assert mixed == pytest.approx(whole[..., order], abs=1e-6)
    actor, memory = Actor(arrays_of(latent, head), squashed=False), Memory()
    played = np.stack([actor.act(seen_by_vm(one, 4), memory)[:, 0] for one in times])
    assert played == pytest.approx(np.clip(whole, -1.0, 1.0), abs=1e-5)
    assert played[4] != pytest.approx(actor.act(seen_by_vm(times[4], 4), Memory())[:, 0], abs=1e-3)


def test_vms_that_are_not_there_draw_nothing_and_count_for_nothing():
    """Of two VMs with deviation 1 the density is that of two numbers, and the entropy 1.419 each."""
    mean, present = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    noise = VmNoise(4).proba_distribution(mean, torch.zeros(1), present)
    assert noise.sample()[0, 2:].tolist() == [0.0, 0.0]
    actions = torch.tensor([[0.5, 0.0, 3.0, -3.0]])
    assert float(noise.log_prob(actions)) == pytest.approx(-2 * 0.5 * np.log(2 * np.pi) - 0.125)
    assert float(noise.entropy()) == pytest.approx(2 * 1.4189385)
    drawn, dense = SquashedVmNoise(4).log_prob_from_params(mean, torch.full((1, 4), -20.0), present)
    assert drawn[0, 2:].tolist() == [0.0, 0.0]
    assert torch.isfinite(dense).all()


def test_held_noise_is_the_same_policy_until_it_is_drawn_anew():
    torch.manual_seed(0)
    noise, log_std = HeldVmNoise(2), torch.full((3,), -1.0)
    codes, present = torch.rand(5, 2, 3), torch.ones(5, 2)

    def drawn():
        return noise.proba_distribution(torch.zeros(5, 2), log_std, present, codes).sample()

    noise.hold(log_std, 5)
    first = drawn()
    assert torch.equal(drawn(), first)
    noise.hold(log_std, 5)
    assert not torch.equal(drawn(), first)
    deviation = (codes.square().sum(-1) * np.exp(-2.0)).sqrt()
    assert torch.allclose(noise.distribution.stddev, deviation, atol=1e-3)
