import pytest

from bench.leaves import Score, compare, leaves


def test_leaves_are_the_scalars_and_the_empty_messages() -> None:
    value = {"name": "c", "empty": {}, "none": [], "list": [{"a": 1}, {"a": 2}]}
    assert leaves(value) == {("name",): "c", ("empty",): "{}", ("list", "[0]", "a"): 1, ("list", "[1]", "a"): 2}


@pytest.mark.parametrize("field", ["domains", "server_names", "prefix_ranges", "clusters"])
def test_order_means_nothing_in_some_lists(field: str) -> None:
    one, other = {field: ["a", "b"]}, {field: ["b", "a"]}
    assert leaves(one) == leaves(other)
    assert leaves({"routes": ["a", "b"]}) != leaves({"routes": ["b", "a"]})


def test_equal_scalars_count_each_and_equal_messages_once() -> None:
    assert len(leaves({"domains": ["a", "a"]})) == 2
    assert len(leaves({"lb_endpoints": [{"endpoint": {"address": {"x": 1}}}] * 2})) == 1


def test_endpoints_are_found_by_address_and_localities_by_name() -> None:
    one = {"lb_endpoints": [{"endpoint": {"address": {"x": n}}, "weight": n} for n in (1, 2)]}
    other = {"lb_endpoints": one["lb_endpoints"][::-1]}
    assert leaves({"endpoints": [{"locality": {"zone": "a"}, **one}]}) == leaves(
        {"endpoints": [{"locality": {"zone": "a"}, **other}]}
    )


def test_score() -> None:
    reference = {"same": {"a": 1, "b": 2}, "differs": {"a": 1, "b": 2}, "absent": {"a": 1}}
    candidate = {"same": {"b": 2, "a": 1}, "differs": {"a": 1, "b": 3, "c": 4}, "more": {"a": 1}}
    score, differences = compare(reference, candidate)
    assert score == Score(same=3, reference=5, candidate=6, exact=1, resources=4)
    assert score.f1 == 6 / 11
    assert score.exact_share == 1 / 4
    assert [(d.resource, d.path, d.reference, d.candidate) for d in differences] == [
        ("absent", "", "<present>", "<absent>"),
        ("differs", "b", 2, 3),
        ("differs", "c", "<absent>", 4),
        ("more", "", "<absent>", "<present>"),
    ]


def test_nothing_against_nothing_is_perfect() -> None:
    score, differences = compare({}, {})
    assert (score.f1, score.exact_share, differences) == (1.0, 1.0, [])


def test_a_resource_of_which_no_leaf_counts_does_not_count() -> None:
    score, differences = compare(
        {"x": {"a": 1, "b": 2}, "y": {"a": 1}}, {"x": {"b": 2}}, lambda _, path: path != ("a",)
    )
    assert score == Score(same=1, reference=1, candidate=1, exact=1, resources=1)
    assert not differences
