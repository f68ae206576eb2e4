"""Standardised logits on one's own modules."""

from nas_kd.methods.combine import make_method

from .refusals import assert_refused
from .toys import net, same, samples, trained

X, Y = samples()


def test_the_method_sees_standardised_logits_and_an_instance_is_shown_what_each_call_asks_for() -> None:
    teacher = net(8, seed=5)
    scaled = trained(teacher, (X, Y), "soft_targets", standardize=True)
    plain = trained(teacher, (X, Y), "soft_targets")
    assert not same(scaled, plain)
    assert same(scaled, trained(teacher, (X, Y), "soft_targets", standardize=True))
    method = make_method("soft_targets")
    method.sees_standardized = True  # of an earlier call
    assert same(plain, trained(teacher, (X, Y), method))


def test_what_is_refused() -> None:
    compare = "it is for methods that compare logits with a teacher's, such as soft_targets"
    assert_refused(f"standardize: of no use to fitnet: {compare}", method="fitnet", standardize=True)
    assert_refused("standardize must be True or False, got 1", standardize=1)
    two = net(classes=2), net(8, classes=2)
    few = r"standardize: of 2 standardised logits only the larger one can be told; it needs 3 classes at least, so .*"
    assert_refused(few, *two, train=(X, Y % 2), standardize=True)
