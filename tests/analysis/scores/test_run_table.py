import json

import pytest

from pelk_mm.analysis.scores.run_table import final_score, run_table


def write_run(folder, *starts):
    for number, entries in enumerate(starts):
        log = folder / f'2026010{number}_000000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(json.dumps(entry) for entry in entries) + '\n')
    return folder


def test_last_value_of_the_last_start_counts(tmp_path):
    first = [{'loss': 2.0}, {'acc': 10.0, 'step': 1}, {'acc': 20.0, 'step': 2}]
    assert final_score(write_run(tmp_path / 'a', first), 'acc') == 20
    assert final_score(write_run(tmp_path / 'b', first, [{'acc': 30.0}]), 'acc') == 30
    assert final_score(write_run(tmp_path / 'c', first, [{'loss': 1.0}]), 'acc') == 20


def test_mean_and_spread_by_hand(tmp_path):
    runs = [write_run(tmp_path / str(score), [{'acc': score}]) for score in (1.0, 2.0, 6.0)]
    single = write_run(tmp_path / 'single', [{'acc': 5.0}])
    rows = run_table({'net': runs, 'other': [single]}, 'acc').splitlines()
    # squared deviations from 3: 4 + 1 + 9 = 14; the sample variance divides by 2
    assert rows[2] == '| net | 3 | 3.00 | 2.65 | 1.00 | 6.00 |'
    assert rows[3] == '| other | 1 | 5.00 | - | 5.00 | 5.00 |'


def test_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no'):
        final_score(tmp_path, 'acc')
    run = write_run(tmp_path / 'run', [{'loss': 1.0}])
    with pytest.raises(ValueError, match="metric 'acc' was never logged in .* logged were loss"):
        final_score(run, 'acc')
    next(run.glob('*/vis_data/scalars.json')).write_text('{"loss": 1')
    with pytest.raises(ValueError, match='not a log of one JSON object a line'):
        final_score(run, 'loss')
