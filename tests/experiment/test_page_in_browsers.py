"""The page in a real browser against the real server: no answer is lost or doubled, and it can be used by everyone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browsers import chromium, in_browser
from tests.support.participants import SETTLED_MS, answer, begin, entered, faults, heading, until, wait_for
from tests.support.people import Served, served

pytestmark = in_browser
CAPTIONS = [f"Somebody meets a person whom they have not seen for {n} years, and laughs." for n in range(2, 9)]
BACK = "https://panel.example/complete?code=ABC"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def people(tmp_path: Path) -> Iterator[Served]:
    """Three trials for each participant, and an address to return to."""
    with served(tmp_path, CAPTIONS, wanted=5, per_participant=3, return_url=BACK) as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with entered(browser) as found:
        yield found


def given_answers(people: Served) -> list[tuple[int, int | None]]:
    return [(number, position) for _, number, position, *_ in people.answers()]


def test_a_participant_from_consent_to_the_way_back(people: Served, page: Any) -> None:
    """The times are those from the moment at which all three are visible."""
    begin(page, people.address)
    wait_for(page, 1)
    page.wait_for_timeout(400)
    page.keyboard.press("2")
    wait_for(page, 2)
    page.click(".card >> nth=2")
    answer(page, 3, 1)
    page.wait_for_selector("#return")
    assert page.get_attribute("#return", "href") == BACK
    assert given_answers(people) == [(1, 2), (2, 3), (3, 1)]
    first = people.answers()[0][-1]
    assert SETTLED_MS + 400 <= first < SETTLED_MS + 1500
    assert people.rows("SELECT state FROM participants") == [("done",)]


def test_arrows_and_enter_choose(people: Served, page: Any) -> None:
    begin(page, people.address)
    wait_for(page, 1)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    wait_for(page, 2)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    wait_for(page, 3)
    assert given_answers(people) == [(1, 2), (2, 3)]


def test_2050_the_way_back_opens_when_everything_has_arrived(people: Served, page: Any) -> None:
    """jsPsych#2050: participants are sent back to Prolific while their answers are still being uploaded."""
    begin(page, people.address)
    answer(page, 1, 1)
    answer(page, 2, 2)
    wait_for(page, 3)
    page.route("**/api/answers", lambda route: route.abort())
    page.keyboard.press("3")
    page.wait_for_selector("#notice.warn:has-text('kept on this device')")
    assert page.locator("#return").count() == 0
    assert given_answers(people) == [(1, 1), (2, 2)]
    page.unroute("**/api/answers")
    page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("moment", ["between trials", "answer under way"])
def test_2451_and_3573_a_reload_loses_nothing(people: Served, page: Any, moment: str) -> None:
    """jsPsych#2451, jsPsych#3573: all answers are gone after a reload, or the experiment begins again."""
    begin(page, people.address)
    answer(page, 1, 3)
    wait_for(page, 2)
    if moment == "answer under way":
        page.route("**/api/answers", lambda route: route.abort())
        page.keyboard.press("2")
        page.wait_for_timeout(300)
        page.unroute("**/api/answers")
        page.evaluate("window.onbeforeunload = null")
    page.reload()
    page.click("button[value=continue]")
    if moment == "between trials":
        answer(page, 2, 2)
    answer(page, 3, 1)
    page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 3), (2, 2), (3, 1)]
    assert len(people.rows("SELECT * FROM participants")) == 1
    page.reload()  # at the end, too, it stays where it is
    page.wait_for_selector("#return")
    assert len(people.rows("SELECT * FROM participants")) == 1


def test_an_answer_outlives_the_browser(people: Served, page: Any) -> None:
    """It is in the browser's database before it is sent; the page of another tab sends it."""
    begin(page, people.address)
    wait_for(page, 1)
    page.context.set_offline(True)
    page.keyboard.press("2")
    page.wait_for_selector("#notice.warn")
    assert given_answers(people) == []
    page.close()  # a last attempt may arrive now: a page that is closed is no longer offline
    page.context.set_offline(False)
    again = page.context.new_page()
    again.goto(people.address)
    again.click("button[value=continue]")
    wait_for(again, 2)
    assert given_answers(people) == [(1, 2)]


def test_an_answer_arrives_after_the_time_to_continue(tmp_path: Path, page: Any) -> None:
    """It was given in time; what is over is the time in which to continue."""
    with served(tmp_path, CAPTIONS, per_participant=3, resume_within_h=3 / 3600) as people:
        begin(page, people.address)
        wait_for(page, 1)
        page.context.set_offline(True)
        page.keyboard.press("2")
        page.wait_for_selector("#notice.warn")
        page.close()
        page.context.set_offline(False)
        again = page.context.new_page()
        again.wait_for_timeout(3500)
        again.goto(people.address)
        again.wait_for_selector("text=The time in which you could continue has passed")
        assert given_answers(people) == [(1, 2)]


def test_psiturk_51_an_earlier_answer_is_not_overwritten(people: Served, page: Any) -> None:
    """psiTurk#51: a later answer replaces an earlier one of the same trial."""
    begin(page, people.address)
    requests: list[Any] = []
    page.on("request", lambda one: requests.append(one.post_data) if one.url.endswith("api/answers") else None)
    answer(page, 1, 1)
    wait_for(page, 2)
    later = json.loads(requests[0])
    later["answers"][0]["position"] = 3
    said = page.evaluate(
        "body => fetch('api/answers', {method: 'POST', body: JSON.stringify(body)}).then(one => one.json())", later
    )
    assert said["stored"] == [1]
    assert given_answers(people) == [(1, 1)]


def test_two_tabs_are_one_participant(people: Served, page: Any) -> None:
    """The tab that was opened last takes over; the other one says so, and gives no answers."""
    begin(page, people.address)
    answer(page, 1, 1)
    wait_for(page, 2)
    second = page.context.new_page()
    second.goto(people.address)
    page.wait_for_selector("button[value=here]")
    second.click("button[value=continue]")
    answer(second, 2, 2)
    wait_for(second, 3)
    page.keyboard.press("3")
    page.click("button[value=here]")
    second.wait_for_selector("button[value=here]")
    page.click("button[value=continue]")
    answer(page, 3, 3)
    page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 1), (2, 2), (3, 3)]
    assert len(people.rows("SELECT * FROM participants")) == 1


def test_the_back_button_stays(people: Served, page: Any) -> None:
    page.goto("about:blank")
    begin(page, people.address)
    answer(page, 1, 1)
    wait_for(page, 2)
    page.evaluate("history.back()")
    page.wait_for_timeout(300)
    page.evaluate("history.back()")
    page.wait_for_timeout(300)
    answer(page, 2, 2)
    wait_for(page, 3)
    assert given_answers(people) == [(1, 1), (2, 2)]


def test_revisit_1182_another_network_is_not_another_person(tmp_path: Path, browser: Any) -> None:
    """reVISit#1182: one who changes from Wi-Fi to mobile becomes a second person.

    No address is looked at: the same browser continues under the same secret, and with a panel's id another browser,
    which asks from another address, does too.
    """
    with served(tmp_path, CAPTIONS, per_participant=3, panel="PROLIFIC_PID") as people:
        address = f"{people.address}&PROLIFIC_PID=5f1"
        with entered(browser) as page:
            begin(page, address)
            answer(page, 1, 1)
            wait_for(page, 2)
            page.context.set_offline(True)
            page.keyboard.press("2")
            page.wait_for_timeout(500)
            page.context.set_offline(False)
            wait_for(page, 3)
        with entered(browser) as page:
            page.goto(address.replace("127.0.0.1", "localhost"))
            page.click("button[value=continue]")
            answer(page, 3, 3)
            page.wait_for_selector("text=all your answers have arrived")
        assert given_answers(people) == [(1, 1), (2, 2), (3, 3)]
        assert len(people.rows("SELECT * FROM participants")) == 1


def test_474_presses_between_trials_are_not_answers(people: Served, page: Any) -> None:
    """jsPsych#474: a key that is pressed between two trials answers the second one."""
    begin(page, people.address)
    answers: list[Any] = []

    def hold(route: Any) -> None:
        answers.append(route)

    page.route("**/api/answers", hold)
    wait_for(page, 1)
    page.keyboard.down("1")
    until(lambda: page.wait_for_timeout(50) is None and answers)
    for key in ("2", "3", "Enter"):
        page.keyboard.press(key)  # while the first answer is on its way
    answers[0].continue_()
    page.unroute("**/api/answers")
    wait_for(page, 2)
    for _ in range(5):
        page.keyboard.down("1")  # it is still held: repeats
    page.wait_for_timeout(200)
    assert given_answers(people) == [(1, 1)]
    page.keyboard.up("1")
    page.dblclick(".card >> nth=1")
    wait_for(page, 3)
    assert given_answers(people) == [(1, 1), (2, 2)]


def test_a_mouse_button_held_from_before_is_not_an_answer(people: Served, page: Any) -> None:
    begin(page, people.address)
    wait_for(page, 1)
    box = page.locator(".card >> nth=2").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.keyboard.press("1")
    wait_for(page, 2)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert given_answers(people) == [(1, 1)]


def test_touch_answers(people: Served, browser: Any) -> None:
    with entered(browser, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 640}) as page:
        begin(page, people.address)
        for number in (1, 2, 3):
            wait_for(page, number)
            page.tap(f".card >> nth={number - 1}")
        page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 1), (2, 2), (3, 3)]


def test_a_killed_server_loses_nothing(people: Served, page: Any) -> None:
    """The page waits, says so, and continues when the server is back."""
    begin(page, people.address)
    answer(page, 1, 1)
    wait_for(page, 2)
    people.kill()
    page.keyboard.press("3")
    page.wait_for_selector("#notice.warn")
    people.start()
    answer(page, 3, 2)
    page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 1), (2, 3), (3, 2)]


@pytest.mark.parametrize("name", ["static/media.js", "jspsych/jspsych.js", "static/with_server.js"])
def test_a_page_whose_script_did_not_arrive_loads_again(people: Served, browser: Any, name: str) -> None:
    page = browser.new_page()  # not one in which an error of a script is a failure
    failed: list[str] = []

    def fail_once(route: Any) -> None:
        if failed:
            route.continue_()
        else:
            failed.append(name)
            route.abort()

    page.route(f"**/{name}", fail_once)
    begin(page, people.address)
    answer(page, 1, 1)
    wait_for(page, 2)
    page.close()
    assert failed == [name]
    assert given_answers(people) == [(1, 1)]


def test_a_lost_reply_to_joining_does_not_make_a_second_person(people: Served, page: Any) -> None:
    """The browser makes its secret before it joins."""
    lost: list[Any] = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch())
            route.abort()

    page.route("**/api/join", lose)
    begin(page, people.address)
    wait_for(page, 1)
    assert len(lost) == 1
    assert len(people.rows("SELECT * FROM participants")) == 1


@pytest.mark.parametrize("missing", ["indexedDB", "indexedDB, sessionStorage, BroadcastChannel"])
def test_a_private_window_without_storage_works(people: Served, browser: Any, missing: str) -> None:
    """It loses nothing while it is open, and promises nothing else."""
    with entered(browser) as page:
        for name in missing.split(", "):
            page.add_init_script(
                f"Object.defineProperty(window, '{name}', {{get() {{ throw new DOMException('', 'SecurityError'); }}}})"
                if name != "BroadcastChannel"
                else "delete window.BroadcastChannel"
            )
        begin(page, people.address)
        wait_for(page, 1)
        page.context.set_offline(True)
        page.keyboard.press("1")
        said = page.wait_for_selector("#notice.warn").inner_text()
        assert "this device" not in said
        page.context.set_offline(False)
        wait_for(page, 2)
        if missing == "indexedDB":  # the tab's own storage outlives a reload
            page.reload()
            page.click("button[value=continue]")
        answer(page, 2, 2)
        answer(page, 3, 3)
        page.wait_for_selector("#return")
    assert given_answers(people) == [(1, 1), (2, 2), (3, 3)]
    assert len(people.rows("SELECT * FROM participants")) == 1


def test_a_wrong_clock_changes_nothing(people: Served, browser: Any) -> None:
    with entered(browser) as page:
        page.add_init_script("let t = 0; Date.now = () => (t -= 86400000); Date.prototype.getTime = Date.now")
        begin(page, people.address)
        for number in (1, 2, 3):
            answer(page, number, number)
        page.wait_for_selector("#return")
    assert all(200 < ms < 2000 for *_, ms in people.answers())


def test_a_laptop_that_slept_continues(people: Served, page: Any) -> None:
    """A request that hangs, as after a sleep, is given up and sent again when the page is seen again."""
    begin(page, people.address)
    hanging: list[Any] = []

    def hang(route: Any) -> None:
        hanging.append(route)

    page.route("**/api/answers", hang)
    answer(page, 1, 1)
    until(lambda: page.wait_for_timeout(50) is None and hanging)
    hanging[0].abort()
    page.unroute("**/api/answers")
    page.evaluate("dispatchEvent(new Event('online'))")
    wait_for(page, 2)
    assert given_answers(people) == [(1, 1)]


@pytest.mark.parametrize("how", ["left", "withdrawn"])
def test_stopping_costs_nothing(people: Served, page: Any, how: str) -> None:
    """The way back opens for those, too, who stop; whether their answers are used is for them to say."""
    begin(page, people.address)
    answer(page, 1, 1)
    wait_for(page, 2)
    page.click("#stop")
    page.keyboard.press("2")  # not an answer while the question is open
    page.click("dialog button[value='']")
    page.click("#stop")
    page.click(f"dialog button[value={how}]")
    page.wait_for_selector("#return")
    assert given_answers(people) == ([(1, 1)] if how == "left" else [])
    [(code,)] = people.rows("SELECT participant FROM participants")
    assert (code in page.inner_text("main")) == (how == "left")  # with which to ask for deletion later
    assert people.rows("SELECT state FROM participants") == [(how,)]
    assert page.locator("#stop").is_hidden()
    assert page.inner_text("#progress") == ""


def test_what_is_said_while_loading_vanishes(people: Served, page: Any) -> None:
    page.goto(people.address)
    for button in ("agree", "begin"):
        page.wait_for_selector(f"button[value={button}]")
        assert page.locator("#experiment > *").count() == 1
        page.click(f"button[value={button}]")
    wait_for(page, 1)
    assert page.locator("#experiment > *").count() == 1


def test_who_does_not_agree_gives_no_answers(people: Served, page: Any) -> None:
    page.goto(people.address)
    page.click("button[value=decline]")
    page.wait_for_selector("#return")
    assert people.answers() == []


def test_german_is_chosen_before_consent(people: Served, browser: Any) -> None:
    with entered(browser, locale="de-AT") as page:
        page.goto(people.address)
        page.wait_for_selector("button[value=agree]")
        assert heading(page) == "Teilnahme"
        assert page.get_attribute("html", "lang") == "de"
        page.click("button[value=en]")
        page.wait_for_selector("button[value=de]")
        assert heading(page) == "Taking part"
        assert people.rows("SELECT language FROM participants") == [("en",)]
        page.click("button[value=de]")
        page.wait_for_selector("button[value=en]")
        page.click("button[value=agree]")
        page.click("button[value=begin]")
        answer(page, 1, 1)
        wait_for(page, 2)
        page.reload()
        page.wait_for_selector("main:has-text('Willkommen')")
    assert people.rows("SELECT language FROM participants") == [("de",)]


@pytest.mark.parametrize(
    ("entry", "said"), [("study=wrong", "not valid"), ("link=wrong", "not valid"), ("", "not valid")]
)
def test_a_wrong_link_says_so(people: Served, page: Any, entry: str, said: str) -> None:
    page.goto(people.address.partition("?")[0] + f"?{entry}")
    page.wait_for_selector(f"main:has-text('{said}')")


def test_practice_time_limit_and_cannot_tell(tmp_path: Path, page: Any) -> None:
    with served(tmp_path, CAPTIONS, n_practice=1, per_participant=2, time_limit_s=1.5, cannot_tell=True) as people:
        begin(page, people.address)
        wait_for(page, 1)
        right = page.locator(".card").all_inner_texts()
        odd = next(at for at, text in enumerate(right) if CAPTIONS[2] in text) + 1
        page.keyboard.press(str(odd))
        page.wait_for_selector("text=Well spotted")
        page.click("button:has-text('Continue')")
        wait_for(page, 2)
        page.click("text=I cannot tell")
        page.wait_for_selector(".trial[data-number='3']")
        page.wait_for_selector("text=all your answers have arrived")
        found = people.answers()
        assert [(number, position, reason) for _, number, position, reason, *_ in found] == [
            (1, odd, None),
            (2, None, "cannot_tell"),
            (3, None, "timed_out"),
        ]
        assert 1500 <= found[2][-1] < 2500


def test_enter_that_is_held_does_not_skip_the_feedback(tmp_path: Path, page: Any) -> None:
    with served(tmp_path, CAPTIONS, n_practice=1, per_participant=2) as people:
        begin(page, people.address)
        wait_for(page, 1)
        page.keyboard.press("ArrowRight")
        for _ in range(5):
            page.keyboard.down("Enter")
        page.wait_for_selector(".trial button.primary")
        for _ in range(5):
            page.keyboard.down("Enter")
            page.wait_for_timeout(50)
        assert page.locator(".trial button.primary").count() == 1
        page.keyboard.up("Enter")
        page.keyboard.press("Enter")
        wait_for(page, 2)
        assert len(given_answers(people)) == 1


def test_scripts_in_captions_are_text(tmp_path: Path, page: Any) -> None:
    evil = [
        "<img src=x onerror=document.title='owned'>",
        "<script>document.title='owned'</script>",
        "{{7*7}} \u202e&amp;",
    ]
    with served(tmp_path, evil, per_participant=1) as people:
        begin(page, people.address)
        wait_for(page, 1)
        shown = page.locator(".card .caption").all_text_contents()
        assert sorted(shown) == sorted(evil)
        assert page.title() != "owned"


@pytest.mark.parametrize(("width", "language"), [(320, "de"), (320, "en"), (768, "en"), (1440, "de")])
def test_every_state_is_accessible_and_fits(tmp_path: Path, browser: Any, width: int, language: str) -> None:
    looks = {"viewport": {"width": width, "height": 700}, "locale": language}
    with (
        served(
            tmp_path, CAPTIONS, n_practice=1, per_participant=3, break_every=2, cannot_tell=True, return_url=BACK
        ) as people,
        entered(browser, **looks) as page,
    ):
        page.goto(people.address)
        page.wait_for_selector("button[value=agree]")
        assert faults(page) == []
        page.click("button[value=agree]")
        page.wait_for_selector("button[value=begin]")
        assert faults(page) == []
        page.click("button[value=begin]")
        answer(page, 1, 1)
        page.wait_for_selector(".trial button.primary")
        assert faults(page) == []
        page.keyboard.press("Enter")
        answer(page, 2, 1)
        wait_for(page, 3)
        assert faults(page) == []
        page.click("#stop")
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.context.set_offline(True)
        page.keyboard.press("2")
        page.wait_for_selector("#notice.warn")
        assert faults(page) == []
        page.context.set_offline(False)
        page.wait_for_selector("button[value=continue]")
        page.wait_for_selector("#notice.good")
        assert faults(page) == []
        page.click("button[value=continue]")
        answer(page, 4, 1)
        page.wait_for_selector("#return")
        assert faults(page) == []


def test_the_page_is_small_and_asks_nobody_else(people: Served, page: Any) -> None:
    """`entered` fails if a request goes to another computer, or the policy of the page refuses anything."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda one: sizes.append(one["encodedDataLength"]))
    begin(page, people.address)
    for number in (1, 2, 3):
        answer(page, number, 1)
    page.wait_for_selector("#return")
    assert 90_000 < sum(sizes) < 200_000
    policy = page.evaluate("fetch(location.href).then(one => one.headers.get('content-security-policy'))")
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy


def test_a_screen_reader_hears_the_captions(people: Served, page: Any) -> None:
    begin(page, people.address)
    wait_for(page, 1)
    names = page.evaluate("[...document.querySelectorAll('.card')].map(one => one.ariaLabel)")
    shown = page.locator(".card .caption").all_text_contents()
    assert names == [f"Item {at}: {text}" for at, text in enumerate(shown, 1)]
    assert page.evaluate("document.activeElement.id") == "question"
    heard = page.inner_text("[aria-live=polite]")
    assert all(text in heard for text in shown)
