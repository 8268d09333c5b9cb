"""`raptr backends`: what is installed, what it can do, what it lacks."""

from importlib.metadata import PackageNotFoundError

from raptr_dsl import registry


def test_every_backend_with_what_it_can_do(raptr) -> None:
    done = raptr("backends")
    assert (done.code, done.err) == (0, "")
    for name in ("jax", "reference", "torch"):
        assert f"{name}  raptr-dsl " in done.out
    assert done.out.count("  axes       ") == done.out.count("  attributes ") == 3
    assert "  attributes freeze, grow, rewarm, train\n" in done.out
    assert done.out.count("  idle       skip, zero\n") == 3
    assert "needs" not in done.out


def test_what_is_missing_comes_with_the_command_that_installs_it(raptr, monkeypatch) -> None:
    def missing(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(registry, "distribution", missing)
    done = raptr("backends")
    assert done.code == 0
    assert '  needs      torch>=2.6, not installed: pip install "raptr-dsl[torch]"\n' in done.out


def test_a_broken_backend_does_not_hide_the_others(raptr, monkeypatch) -> None:
    load = registry.load

    def broken(name: str):
        if name == "torch":
            raise registry.not_installed(registry.find(name))
        return load(name)

    monkeypatch.setattr(registry, "load", broken)
    done = raptr("backends")
    assert done.code == 1
    assert "reference" in done.out
    assert "error[backend-not-installed]" in done.err
