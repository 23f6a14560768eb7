from teddy.runtime import metrics


def test_every_fixed_name_is_listed_once_and_has_two_parts():
    assert metrics.SYNTHESIS_LOSS_BN in metrics.FIXED
    assert metrics.POOL_TOP1_TEST in metrics.FIXED
    assert len(set(metrics.FIXED)) == len(metrics.FIXED)
    assert all(len(name.split("/")) == 2 for name in metrics.FIXED)


def test_curves_belong_to_a_stage():
    families = {name.split("/")[0] for name in metrics.FIXED}
    assert families - {"cost"} <= set(metrics.STAGES)


def test_names_with_a_variable_part():
    assert metrics.step_of(metrics.SYNTHESIS) == "synthesis/step"
    assert metrics.student("resnet18") == "student/resnet18/top1"
    assert metrics.student("resnet18", "top1_std") == "student/resnet18/top1_std"
