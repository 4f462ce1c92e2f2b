"""`sdezoo cite`."""


def test_it_prints_bibtex_and_names_those_who_cite(terminal):
    code, out, _ = terminal("cite", "gbm", "mult-dsm", "mlp")
    assert code == 0
    assert out.startswith("% gbm, mult-dsm\n@article{shetty2025dale,\n")
    assert out.endswith("% no paper: mlp\n\n")


def test_a_name_that_is_unknown(terminal):
    code, _, err = terminal("cite", "gmb")
    assert code != 0
    assert "gbm" in err
