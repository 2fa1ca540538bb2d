"""A cohort exists only where schemas agree, and everything it shows is public."""

from __future__ import annotations

import pytest

from policies.errors import InvalidRequest, PermissionRefused, Unavailable, UnsupportedMechanism
from researcher.network import connect, network_of
from tests.researcher.fake_datasites import FakeDatasite


def test_a_cohort_shows_published_sizes_and_budgets_left(network):
    flu = network.dataset("flu")
    assert flu.sizes == {"general": 1000, "paediatric": 2000, "rural": 1000}
    assert flu.training_patients == {"general": 800, "paediatric": 1600, "rural": 800}
    assert flu.budget["rural"]["epsilon_remaining"] == 6.0
    shown = repr(flu)
    for text in (
        "'flu' at 3 hospitals",
        "paediatric     2,000  declared",
        "temperature (real)",
        "Target: influenza (no, yes)",
        "A model gets 2 numbers in",
    ):
        assert text in shown


def test_the_mock_is_one_table_by_hospital(network):
    mock = network.dataset("flu").mock
    assert list(mock.index.names) == ["hospital", "row"]
    assert set(mock.index.get_level_values("hospital")) == {"general", "paediatric", "rural"}
    assert set(mock["age"]) == {30, 41}


def test_schemas_that_differ_are_not_one_cohort_and_the_difference_is_named():
    network = network_of({"a": FakeDatasite("a"), "b": FakeDatasite("b", oldest=90)})
    with pytest.raises(InvalidRequest, match=r"columns\[age\]\.maximum is 110.* at a and 90.* at b"):
        network.dataset("flu")
    assert list(network.dataset("flu", datasites=["a"]).members) == ["a"]


def test_an_unknown_dataset_names_what_is_published(network):
    with pytest.raises(InvalidRequest, match="Published are: general: flu; paediatric: flu"):
        network.dataset("influenza")
    with pytest.raises(InvalidRequest, match="No datasite is called 'urban'"):
        network.dataset("flu", datasites=["urban"])


def test_a_datasite_that_is_down_is_left_out_with_a_warning_and_named(hospitals):
    hospitals["rural"].down = True
    with pytest.warns(UserWarning, match="Left out: rural does not answer"):
        network = network_of(dict(hospitals))
    assert list(network.dataset("flu").members) == ["general", "paediatric"]
    assert "rural: not reached" in repr(network)


def test_a_network_without_any_answer_is_unavailable(hospitals):
    for hospital in hospitals.values():
        hospital.down = True
    with pytest.raises(Unavailable, match="No datasite answered"):
        network_of(dict(hospitals))


def test_a_refused_login_is_not_left_out_but_raised():
    class Locked(FakeDatasite):
        def describe(self):
            raise PermissionRefused("rural does not accept r@uni.example with this password.")

    with pytest.raises(PermissionRefused, match="with this password"):
        network_of({"general": FakeDatasite("general"), "rural": Locked("rural")})


def test_statistics_are_checked_against_the_schema_before_anything_is_asked(network, hospitals):
    flu = network.dataset("flu")
    with pytest.raises(UnsupportedMechanism):
        flu.statistics(mean="height", epsilon=0.2)
    with pytest.raises(UnsupportedMechanism):
        flu.statistics(epsilon=0.2)
    study = flu.statistics(count=True, mean=["temperature", "age"], histogram="age", epsilon=0.2)
    assert [query.key for query in study.mechanism.queries] == [
        "count",
        "mean/temperature",
        "mean/age",
        "histogram/age",
    ]
    assert "quote" not in hospitals["general"].calls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no \\[\\[datasites\\]\\] table"),
        ("[[datasites]]\nname = 3 =", "is not TOML"),
        ('[[datasites]]\nname = "a"\nemail = "r@uni.example"', "a: url is missing"),
        ('[[datasites]]\nurl = "hospital.example"\nemail = "r@uni.example"', "does not begin with https://"),
        ('[[datasites]]\nurl = "https://h"\nemail = "r@x"\npasword = "x"', "pasword is not known"),
        (
            '[[datasites]]\nurl = "https://h:94610"\nemail = "r@x"\npassword = "x"',
            "Port out of range.*https://host:port",
        ),
        (
            '[[datasites]]\nurl = "https://h"\nemail = "r@x"\npassword_file = "none"',
            "password_file .*none cannot be read",
        ),
    ],
)
def test_a_malformed_network_file_is_refused_with_what_to_write(tmp_path, text, message):
    path = tmp_path / "network.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        connect(path)


def test_a_network_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"none\.toml cannot be read"):
        connect(tmp_path / "none.toml")
