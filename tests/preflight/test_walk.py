from mmengine.config import Config

from pelk_mm.preflight.walk import datasets_below, innermost


def test_the_innermost_data_set_of_a_dataloader_is_the_one_in_the_config():
    cfg = Config({'loader': {'batch_size': 2, 'dataset': {'type': 'Repeat', 'dataset': {'type': 'A', 'pipeline': []}}}})
    innermost(cfg.loader).pipeline = ['step']
    assert cfg.loader.dataset.dataset == {'type': 'A', 'pipeline': ['step']}
    assert innermost({}) == {}


def test_only_a_walk_goes_into_joined_data_sets():
    joined = {'type': 'Concat', 'datasets': [{'type': 'A'}, {'type': 'B'}]}
    loader = {'dataset': {'type': 'Repeat', 'dataset': joined}}
    assert innermost(loader) == joined
    assert [key for key, _ in datasets_below(loader, 'x')] == [f'x.dataset.dataset.datasets.{i}' for i in (0, 1)]
