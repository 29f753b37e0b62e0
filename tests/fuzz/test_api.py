"""Whatever is sent, the API answers as its document says: no 500, and no record that is unreadable.

`make fuzz ARGS="--max-examples 1000"` looks longer, by chance; here it is the same every time.
"""

from tests.fuzz.schemas import fuzz
from tests.kit.simulated_site import SimulatedSite

OPTIONS = ("--seed", "1", "--max-examples", "8", "--phases", "examples,coverage,fuzzing")


def test_every_answer_is_as_the_document_says() -> None:
    code, said = fuzz(OPTIONS)
    assert code == 0, said


def test_the_site_that_is_asked_is_the_whole_service() -> None:
    with SimulatedSite() as site:
        assert site.records_are_read_back() > 5
        assert site.faults == []
