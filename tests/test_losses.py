"""Loss terms: golden values and gradients, and the laws every term and every aggregation keeps."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.losses import cispo, clipped, entropy_bonus, gmpo, gspo, kl, sapo, weights

POLICY_TERMS = {
    "clipped": clipped,
    "dual clip": functools.partial(clipped, clip_high=0.28, dual_clip=3.0),
    "clip off": functools.partial(clipped, clip_low=None, clip_high=None),
    "gspo": gspo,
    "cispo": cispo,
    "gmpo": gmpo,
    "sapo": sapo,
}
AGGREGATES = ("token_mean", "sequence_mean", "sequence_sum", "constant")
every_term = pytest.mark.parametrize("term", POLICY_TERMS.values(), ids=POLICY_TERMS)
close = functools.partial(torch.testing.assert_close, atol=2e-6, rtol=2e-6)


def rows_from(make_rollouts, inputs):
    """The rollouts of a golden vector, and its log-probs as a leaf."""
    mask = torch.tensor(inputs["mask"]).bool()
    advantage = torch.tensor(inputs["adv"])[:, None].expand(mask.shape).clone()
    rows = make_rollouts(
        inputs["adv"], [0] * len(mask), mask.sum(1), logp_old=torch.tensor(inputs["old_logp"]), advantage=advantage
    )
    return rows, torch.tensor(inputs["logp"], requires_grad=True)


def random_rows(make_rollouts, seed, *, spread, lengths=(4, 1, 6, 3)):
    """Random advantages, one per row, and log-probs within `spread` of the old ones."""
    noise = torch.Generator().manual_seed(seed)
    width = max(lengths)
    old = -2 * torch.rand(len(lengths), width, generator=noise)
    advantage = torch.randn(len(lengths), 1, generator=noise).expand(-1, width).clone()
    rows = make_rollouts(advantage[:, 0], [0] * len(lengths), lengths, logp_old=old, advantage=advantage)
    logp = old + spread * (2 * torch.rand(old.shape, generator=noise) - 1)
    return rows, logp.requires_grad_()


def total(term, logp, rows, aggregate="token_mean", constant_length=4):
    return (term(logp, rows) * weights(rows.mask, aggregate, constant_length=constant_length)).sum()


def gradient(loss, logp):
    return torch.autograd.grad(loss, logp)[0]


# -- golden --------------------------------------------------------------------------------------------------------


def test_golden_clip_higher_with_dual_clip(golden, make_rollouts):
    vector = golden["loss_ppo_clip_higher_dual_clip_and_aggregation"]
    rows, logp = rows_from(make_rollouts, vector["inputs"])
    loss = clipped(logp, rows, clip_low=0.2, clip_high=0.28, dual_clip=3.0)
    close((loss * rows.mask).detach(), torch.tensor(vector["expected"]["per_token"]))


GOLDEN_AGGREGATES = {
    "token_mean": "token-mean",
    "sequence_sum": "seq-mean-token-sum",
    "sequence_mean": "seq-mean-token-mean",
    "constant": "dr_grpo_trl = sum/(B*Lmax)",
}


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_golden_aggregates(golden, make_rollouts, aggregate):
    vector = golden["loss_ppo_clip_higher_dual_clip_and_aggregation"]
    rows, logp = rows_from(make_rollouts, vector["inputs"])
    term = functools.partial(clipped, clip_low=0.2, clip_high=0.28, dual_clip=3.0)
    loss = total(term, logp, rows, aggregate, vector["inputs"]["Lmax"])
    assert loss.item() == pytest.approx(vector["expected"]["aggregates"][GOLDEN_AGGREGATES[aggregate]], abs=2e-6)


GOLDEN_TERMS = {
    "gspo, the paper's bounds": ("loss_gspo_paper_eps", "grad_logp", gspo, "sequence_mean"),
    "gspo, wide": (
        "loss_gspo_wide_eps",
        "grad_logp",
        functools.partial(gspo, clip_low=0.2, clip_high=0.28),
        "sequence_mean",
    ),
    "cispo": ("loss_cispo", "grad_logp", functools.partial(cispo, clip_low=0.2), "token_mean"),
    "cispo, trl": (
        "loss_cispo",
        "grad_logp_trl_upper_only_max5",
        functools.partial(cispo, clip_high=4.0),
        "token_mean",
    ),
    "sapo": ("loss_sapo", "grad_logp", sapo, "sequence_mean"),
}


@pytest.mark.parametrize(("name", "key", "term", "aggregate"), GOLDEN_TERMS.values(), ids=GOLDEN_TERMS)
def test_golden_gradients(golden, make_rollouts, name, key, term, aggregate):
    vector = golden[name]
    rows, logp = rows_from(make_rollouts, vector["inputs"])
    loss = total(term, logp, rows, aggregate)
    close(gradient(loss, logp), torch.tensor(vector["expected"][key]))
    if key == "grad_logp":
        assert loss.item() == pytest.approx(vector["expected"]["loss"], abs=2e-6)


def test_golden_sapo_gate(golden, make_rollouts):
    vector = golden["loss_sapo"]
    rows, logp = rows_from(make_rollouts, vector["inputs"])
    gate = -sapo(logp, rows) / rows.advantage
    close((gate * rows.mask).detach(), torch.tensor(vector["expected"]["gate"]))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_golden_kl(golden, make_rollouts, estimator):
    vector = golden["kl_estimators"]
    rows = make_rollouts([0.0], [0], [4], logp_ref=torch.tensor([vector["inputs"]["ref_logp"]]))
    logp = torch.tensor([vector["inputs"]["logp"]], requires_grad=True)
    value = kl(logp, rows, estimator=estimator)
    close(value.detach()[0], torch.tensor(vector["expected"][estimator]))
    ahead = (logp - rows.logp_ref).detach()
    expected = {"k1": torch.ones(1, 4), "k2": ahead, "k3": 1 - torch.exp(-ahead)}[estimator]
    close(gradient(value.sum(), logp), expected)
    if estimator == "k3":
        close(expected[0], torch.tensor(vector["expected"]["grad_k3_wrt_logp"]))


@pytest.mark.parametrize("sign", [1, -1])
def test_golden_token_weights_fold_into_the_advantage(golden, make_rollouts, sign):
    vector = golden["token_weight_folds_into_advantage"]
    advantage = sign * torch.tensor([vector["inputs"]["weight"]])
    rows = make_rollouts([0.0], [0], [4], logp_old=torch.zeros(1, 4), advantage=advantage)
    logp = torch.tensor([vector["inputs"]["ratio"]]).log()
    loss = clipped(logp, rows, clip_low=0.2, clip_high=0.28, dual_clip=3.0)
    close(loss[0], torch.tensor(vector["expected"][f"A={sign:+d}"]))


# -- laws of the policy terms --------------------------------------------------------------------------------------


@every_term
@pytest.mark.parametrize("seed", range(3))
def test_on_policy_the_gradient_is_minus_the_advantage(make_rollouts, term, seed):
    rows, logp = random_rows(make_rollouts, seed, spread=0.0)
    by_action = gradient((term(logp, rows) * rows.mask).sum(), logp)
    close(by_action, -rows.advantage * rows.mask)
    by_row = gradient(total(term, logp, rows, "sequence_mean"), logp)
    close(by_row, -rows.advantage * rows.mask / rows.length[:, None] / len(rows))


@every_term
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_masked_actions_get_no_gradient_and_change_nothing(make_rollouts, term, aggregate):
    """Neither padding nor what a stage took out of the mask; not even with a log-prob far off."""
    rows, logp = random_rows(make_rollouts, 0, spread=0.5)
    rows.mask[2, 1] = False
    loss = total(term, logp, rows, aggregate)
    grad = gradient(loss, logp)
    assert (grad[~rows.mask] == 0).all() and (grad[rows.mask] != 0).any()
    elsewhere = torch.where(rows.mask, logp.detach(), torch.tensor(-9.0)).requires_grad_()
    loss_elsewhere = total(term, elsewhere, rows, aggregate)
    close(loss_elsewhere.detach(), loss.detach())
    close(gradient(loss_elsewhere, elsewhere), grad)


@every_term
@settings(max_examples=20)
@given(
    parts=st.permutations(range(6)),
    cut=st.integers(1, 5),
    aggregate=st.sampled_from(AGGREGATES),
    seed=st.integers(0, 9),
)
def test_the_loss_does_not_depend_on_micro_batches(make_rollouts, term, parts, cut, aggregate, seed):
    rows, logp = random_rows(make_rollouts, seed, spread=0.4, lengths=(4, 1, 6, 3, 2, 5))
    share = weights(rows.mask, aggregate, constant_length=7)
    whole = (term(logp, rows) * share).sum()
    pieces = [sorted(parts[:cut]), sorted(parts[cut:])]
    split = sum((term(logp[piece], rows.select(piece)) * share[piece]).sum() for piece in pieces)
    close(split, whole)
    close(gradient(split, logp), gradient(whole, logp))


@every_term
def test_absurd_log_ratios_stay_finite(make_rollouts, term):
    rows, _ = random_rows(make_rollouts, 0, spread=0.0)
    logp = (rows.logp_old + torch.tensor([[300.0], [-300.0], [40.0], [-40.0]])).requires_grad_()
    loss = total(term, logp, rows)
    assert loss.isfinite() and gradient(loss, logp).isfinite().all()


def test_clipping_stops_the_gradient_where_a_step_would_go_too_far(make_rollouts):
    ratio = torch.tensor([[1.5, 0.5, 1.1, 0.9], [1.5, 0.5, 1.1, 0.9]])
    advantage = torch.tensor([[1.0], [-1.0]]).expand(2, 4)
    rows = make_rollouts([0, 0], [0, 0], [4, 4], logp_old=torch.zeros(2, 4), advantage=advantage)
    logp = ratio.log().requires_grad_()
    moves = gradient(clipped(logp, rows).sum(), logp) != 0
    assert moves.tolist() == [[False, True, True, True], [True, False, True, True]]
    open_above = gradient(clipped(logp, rows, clip_high=None).sum(), logp) != 0
    assert open_above.tolist() == [[True] * 4, [True, False, True, True]]
    open_both = gradient(clipped(logp, rows, clip_low=None, clip_high=None).sum(), logp)
    close(open_both, -advantage * ratio)


def test_dual_clip_bounds_the_loss_of_negative_advantages_only(make_rollouts):
    rows = make_rollouts(
        [0, 0], [0, 0], [2, 2], logp_old=torch.zeros(2, 2), advantage=torch.tensor([[1.0, 1.0], [-2.0, -2.0]])
    )
    logp = torch.tensor([[5.0, 2.0], [5.0, 2.0]]).log().requires_grad_()
    loss = clipped(logp, rows, clip_low=None, clip_high=None, dual_clip=3.0)
    close(loss.detach(), torch.tensor([[-5.0, -2.0], [6.0, 4.0]]))
    assert (gradient(loss.sum(), logp) != 0).tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize("seed", range(4))
def test_gmpo_equals_its_formula_in_a_slow_loop(make_rollouts, seed):
    rows, logp = random_rows(make_rollouts, seed, spread=0.8)
    loss = gmpo(logp, rows, clip=0.4).detach()
    for i in range(len(rows)):
        advantage = rows.advantage[i, 0].item()
        sign = math.copysign(1, advantage)
        log_ratios = []
        for t in range(int(rows.length[i])):
            d = (logp[i, t] - rows.logp_old[i, t]).item()
            log_ratios.append(sign * min(sign * d, sign * max(-0.4, min(0.4, d))))
        expected = -advantage * math.exp(sum(log_ratios) / len(log_ratios))
        assert loss[i].tolist() == pytest.approx([expected] * loss.shape[1], rel=1e-5)


# -- aggregation, KL, entropy --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    mask=st.integers(1, 5).flatmap(
        lambda t: st.lists(st.lists(st.booleans(), min_size=t, max_size=t), min_size=1, max_size=6)
    )
)
def test_weights_equal_a_plain_loop(mask):
    """Rows without any action count as absent."""
    mask = torch.tensor(mask)
    present = [row for row in mask if row.any()]
    shares = {
        "token_mean": lambda row: 1 / int(mask.sum()),
        "sequence_mean": lambda row: 1 / int(row.sum()) / len(present),
        "sequence_sum": lambda row: 1 / len(present),
        "constant": lambda row: 1 / (len(present) * 7),
    }
    for aggregate, share in shares.items():
        expected = torch.stack([row * share(row) if row.any() else torch.zeros(len(row)) for row in mask])
        close(weights(mask, aggregate, constant_length=7), expected.float())


def test_weights_of_nothing_are_zero():
    for aggregate in AGGREGATES:
        assert (weights(torch.zeros(2, 3, dtype=torch.bool), aggregate, constant_length=3) == 0).all()


def test_k3_and_k2_are_never_negative_and_zero_only_when_equal(make_rollouts):
    logp = torch.linspace(-30, 0, 31)[None]
    rows = make_rollouts([0.0], [0], [31], logp_ref=torch.full((1, 31), -4.0))
    for estimator in ("k2", "k3"):
        value = kl(logp, rows, estimator=estimator)[0]
        assert value.isfinite().all() and (value >= 0).all() and (value == 0).nonzero().tolist() == [[26]]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_average_to_the_true_divergence(make_rollouts, estimator):
    """Weighted with the policy's own probabilities instead of samples, so there is no noise."""
    noise = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 50, generator=noise).log_softmax(-1)
    rows = make_rollouts([0.0], [0], [50], logp_ref=reference[None])
    value = (policy.exp() * kl(policy[None], rows, estimator=estimator)[0]).sum()
    close(value, (policy.exp() * (policy - reference)).sum())


def test_terms_say_what_they_read(make_rollouts):
    assert kl.needs == ("logp_ref",) and entropy_bonus.needs == ("entropy",)
    rows = make_rollouts([0.0], [0], [3], signals={"entropy": torch.tensor([[1.0, 2.0, 0.5]])})
    assert entropy_bonus(torch.zeros(1, 3), rows).tolist() == [[-1.0, -2.0, -0.5]]
