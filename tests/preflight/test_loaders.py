from types import SimpleNamespace

from pelk_mm.preflight import loaders


def test_every_check_looks_at_every_data_set_before_the_next_check_does(monkeypatch):
    first, second, other = (SimpleNamespace(name=name) for name in 'abc')
    loader = SimpleNamespace(dataset=SimpleNamespace(datasets=[first, SimpleNamespace(dataset=second)]))
    runner = SimpleNamespace(launcher='none', model='net', train=loader, val=SimpleNamespace(dataset=other))
    seen = []

    def check(number):
        return lambda dataset, model, loader: seen.append((number, dataset.name, model, loader))

    monkeypatch.setattr(loaders, 'CHECKS', (check(1), check(2)))
    loaders.check_loaders(runner, ['train', 'val'])
    assert seen == [
        *((number, name, 'net', 'train') for number in (1, 2) for name in 'ab'),
        *((number, 'c', 'net', 'val') for number in (1, 2)),
    ]
