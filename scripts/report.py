"""``hvgym report STUDY``: leaderboard and report of a study, from its rows."""

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.bench import print_leaderboard, study_folder


@configuration.verb("report")
def main(config: DictConfig) -> None:
    """Write summary.json, report.html and pictures again."""
    from hvgym.bench.report import write_report
    from hvgym.bench.study import locked, read_study
    from hvgym.bench.study_note import place_of
    from hvgym.bench.tracking import Place, make_tracker

    study, runs, tracking = (
        configuration.text(config, "study"),
        configuration.runs_folder(config),
        configuration.tracking(config),
    )
    if not study:
        raise InputError("study is missing; hvgym report STUDY")
    folder = study_folder(runs, study)
    place = Place(folder.name) if tracking == "none" else place_of(folder)
    with locked(folder), make_tracker(tracking, runs, place) as tracker:
        summary, files = write_report(folder)
        protocol, done = read_study(folder)
        tracker.start(protocol, folder)
        for result in done:
            tracker.job(result)
        tracker.finish(summary, files)
    print_leaderboard(summary)
    print(f"report: {folder / 'report.html'}")
