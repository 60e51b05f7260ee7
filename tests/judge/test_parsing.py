"""Answers as models really give them, and what each means."""

from __future__ import annotations

import json
import math

import pytest

from affectlake.judge.protocols.label_probabilities import Probabilities, weigh
from affectlake.judge.responses.parsed import Parsed
from affectlake.judge.responses.parsing import parse
from tests.support.chat import KEY_PHRASE, LOCATION, ONE_TOKEN

DESCRIPTION = (
    "Video 1 shows a child laughing on a swing; I feel joy. Video 2 shows two dogs playing; I feel amused. "
    "Video 3 shows a car crash; I feel fear.\n\n"
)

SAYS: list[tuple[str, int]] = [
    # the format asked for, and near it
    ("Video 2 is noticeably different from the other two.", 2),
    ("Video2 is noticeably different from the other two", 2),
    ("Video+3 is noticeably different from the other two.", 3),
    ("Video_1 is noticeably different from the other two", 1),
    ("video #1 is noticeably different from the other two", 1),
    ("Video ID 2 is noticeably different from the other two", 2),
    ("Video+ID: 3 is noticeably different from the other two", 3),
    ("VIDEO 3 IS NOTICEABLY DIFFERENT FROM THE OTHER TWO!", 3),
    ('"Video 1 is noticeably different from the other two."', 1),
    ("**Video 2** is **noticeably different** from the other two.", 2),
    ("**Video_2 is noticeably different from the other two.**\n\n**Reason:** it is sad.", 2),
    ("[Video_3] is noticeably different from the other two.", 3),
    ("Clip 3 is noticeably different from the others.", 3),
    ("Video No. 2 is noticeably different from the other two.", 2),
    ("Video (2) is noticeably different from the other two.", 2),
    ("Video\u00a02 is noticeably  different from the other two.", 2),
    # after a description that names every video
    (DESCRIPTION + "Video 3 is noticeably different from the other two. Videos 1 and 2 are light-hearted.", 3),
    (DESCRIPTION + "Video 3 is noticeably different from the other two because unlike Video 1 it is grim.", 3),
    ("1. Video 1: joy.\n2. Video 2: joy.\n3. Video 3: fear.\n\nVideo 3 is noticeably different from the other two", 3),
    # number words and ordinals
    ("Video one is noticeably different from the other two.", 1),
    ("Video Two is noticeably different from the other two.", 2),
    ("The second video is noticeably different from the other two.", 2),
    ("The third clip evokes an emotional response that is noticeably different from the other two.", 3),
    ("I think the first one is noticeably different.", 1),
    ("The last video is noticeably different from the other two.", 3),
    ("The 2nd video is noticeably different from the other two.", 2),
    ("The second is noticeably different from the other two.", 2),
    # the subject is not the nearest thing to the start
    ("While Video 1 and Video 3 are joyful, Video 2 is noticeably different from the other two.", 2),
    ("Compared with Video 1 and Video 2, Video 3 is noticeably different.", 3),
    ("Videos 1 and 3 share a calm tone; Video 2 is noticeably different.", 2),
    ("The emotional response evoked by Video 2 is noticeably different from that of Video 1 and Video 3.", 2),
    ("Video 2, with its grief and loss, evokes a response that is noticeably different from the other two.", 2),
    ("Video 2 is noticeably different from Video 1 and Video 3.", 2),
    ("Video 2, unlike Video 1 and Video 3, is noticeably different.", 2),
    ("Video 3, compared to Video 1, is noticeably different.", 3),
    # the video after the phrase
    ("The clip that evokes a noticeably different emotional response is Video 2.", 2),
    ("The one that is noticeably different from the other two is Video 3.", 3),
    ("The video that is noticeably different from the other two is the first video.", 1),
    ("Noticeably different from the other two: Video 1", 1),
    # the question repeated, then the answer
    ("Which clip evokes an emotional response that is noticeably different from the other two? Video 3.", 3),
    ("Which clip is noticeably different from the other two?\nVideo 1 is noticeably different from the other two.", 1),
    ("Which video evokes an emotional response that is noticeably different from the other two? 2", 2),
    # said of others that they do not differ
    ("Video 1 is not noticeably different, but Video 3 is noticeably different from the other two.", 3),
    ("Videos 1 and 2 aren't noticeably different. Video 3 is noticeably different from the other two.", 3),
    ("Video 2 doesn't evoke a response noticeably different from the others. Video 3 is noticeably different.", 3),
    ("Videos 1 and 3 do not make me sad; Video 2 is noticeably different.", 2),
    ("Video 1 is not, Video 2 is not, Video 3 is noticeably different.", 3),
    ("Neither Video 1 nor Video 3 is sad, but Video 2 is noticeably different.", 2),
    # a negation of something else
    ("Video 2 is not only sad, it is noticeably different from the other two.", 2),
    ("Video 2 is not just sad but noticeably different.", 2),
    ("Video 2 is not funny and is noticeably different from the other two.", 2),
    ("Video 2 is not a comedy, which makes it noticeably different from the other two.", 2),
    ("Video 2, which does not show any people, is noticeably different from the other two.", 2),
    ("Video 1 and Video 3 are not sad, so Video 2 is noticeably different.", 2),
    ("Unlike the others, which do not evoke fear, Video 3 is noticeably different.", 3),
    ("Since Videos 1 and 2 do not show people Video 3 is noticeably different.", 3),
    ("Video 2 does not contain violence but its mood is noticeably different from the other two.", 2),
    ("Video 3 is noticeably different from the other two because it does not evoke joy.", 3),
    ("The response to Video 2 could not be more noticeably different from the other two.", 2),
    ("No doubt Video 2 is noticeably different from the other two.", 2),
    ("Without a doubt, Video 2 is noticeably different from the other two.", 2),
    ("Video 2 is without any doubt noticeably different from the other two.", 2),
    ("I am not sure, but Video 2 is noticeably different from the other two.", 2),
    ("Not surprisingly, Video 2 is noticeably different from the other two.", 2),
    # corrections
    ("Video 1 is noticeably different. Wait, Video 2 is noticeably different from the other two.", 2),
    ("Video 1 is noticeably different. No, actually Video 3 is noticeably different from the other two.", 3),
    ("Video 1 is noticeably different from the others. Correction: Video 2 is noticeably different.", 2),
    ("Video 1 is noticeably different. On reflection, Video 2 is noticeably different.", 2),
    # the same claim twice
    ("Video 2 is noticeably different from the other two.\n\nTo sum up, the second video is noticeably different.", 2),
    # thinking aloud is no answer
    ("<think>Video 1 is noticeably different? No.</think>Video 2 is noticeably different from the other two.", 2),
    ("Hmm, Video 1 is noticeably different... </think>\n\nVideo 3 is noticeably different from the other two.", 3),
]

SAYS_NOT: list[tuple[str, str]] = [
    ("", "empty"),
    (" \n\t", "empty"),
    ("<think>joy, joy, fear</think>", "empty"),
    # nothing of the kind is said
    ("Video 2 stands out.", "no_key_phrase"),
    ("Video 2 is different from the other two.", "no_key_phrase"),
    ("2", "no_key_phrase"),
    (DESCRIPTION, "no_key_phrase"),
    # of no video
    ("Video+ID is noticeably different from the other two.", "no_position"),
    ("One of them is noticeably different from the other two.", "no_position"),
    ("In the video I saw, something is noticeably different from the other two.", "no_position"),
    ("The dog video is noticeably different from the other two.", "no_position"),
    ("The answer format is noticeably different.", "no_position"),
    ("Video 1 is not noticeably different from the other two.", "no_position"),
    # denied, and nothing else is said
    ("Video 1 does not evoke an emotional response that is noticeably different from the other two.", "no_position"),
    (  # as SmolLM2-135M-Instruct answered
        "the first video is not influenced by the video index and does not evoke an emotional response that is "
        "noticeably different from the other two.",
        "no_position",
    ),
    ("I don't think that Video 3 is noticeably different from the other two.", "no_position"),
    ("I do not believe Video 1 evokes an emotional response that is noticeably different.", "no_position"),
    ("I am not sure that Video 2 is noticeably different from the other two.", "no_position"),
    ("It is not the case that Video 2 is noticeably different.", "no_position"),
    ("Video 1 fails to evoke an emotional response that is noticeably different.", "no_position"),
    ("Video 3 lacks an emotional response that is noticeably different.", "no_position"),
    ("Video 1 evokes no emotional response that is noticeably different.", "no_position"),
    ("Video 1 never evokes a response that could be called noticeably different.", "no_position"),
    ("Wait, Video 1 does not evoke a response that is noticeably different.", "no_position"),
    # of several
    ("Videos 1 and 3 are noticeably different from each other.", "several"),
    ("Video 1 and Video 2 are noticeably different.", "several"),
    ("Videos 1, 2 and 3 are noticeably different.", "several"),
    ("Video 1 is noticeably different. Video 2 is noticeably different.", "several"),
    ("The first and second videos are noticeably different from the third.", "several"),
    ("Video 1 or Video 3 is noticeably different.", "several"),
    # of none, of all
    ("None of the videos is noticeably different from the other two.", "none_differs"),
    ("Neither is noticeably different from the other two.", "none_differs"),
    ("All of them are noticeably different.", "none_differs"),
    ("No video is noticeably different from the other two.", "none_differs"),
    ("Neither Video 1 nor Video 2 is noticeably different from the others.", "none_differs"),
    ("None of the videos evokes an emotional response that is noticeably different.", "none_differs"),
    # of one that was not shown
    ("Video 4 is noticeably different from the other two.", "out_of_range"),
    ("Video 0 is noticeably different from the other two.", "out_of_range"),
    ("Video 12 is noticeably different from the other two.", "out_of_range"),
    # refusals
    ("I'm sorry, but I can't help with that.", "refusal"),
    ("As an AI language model, I do not feel emotions.", "refusal"),
    ("I am unable to view videos.", "refusal"),
    ("I’m sorry, I cannot say which clip is noticeably different.", "refusal"),
    # other languages
    ("视频2引起了悲伤的情绪。", "other_language"),
    ("Видео 2 заметно отличается от двух других.", "other_language"),
    ("La vidéo 2 est sensiblement différente des deux autres.", "no_key_phrase"),
    ("El video 3 es notablemente diferente.", "no_key_phrase"),
]


@pytest.mark.parametrize(("text", "position"), SAYS)
def test_an_answer_that_names_one_video(text: str, position: int) -> None:
    assert parse(text, KEY_PHRASE) == Parsed(position, None)


@pytest.mark.parametrize(("text", "reason"), SAYS_NOT)
def test_an_answer_that_names_none(text: str, reason: str) -> None:
    assert parse(text, KEY_PHRASE) == Parsed(None, reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DESCRIPTION[:60], Parsed(None, "truncated")),
        ("Video 1 shows joy. The clip that is noticeably different", Parsed(None, "truncated")),
        ("<think>Let me look at Video 1", Parsed(None, "truncated")),
        ("Video 3 is noticeably different from the other two. The reason for this is", Parsed(3, None)),
        ("I'm sorry, but as an AI", Parsed(None, "refusal")),
    ],
)
def test_an_answer_cut_off(text: str, expected: Parsed) -> None:
    assert parse(text, KEY_PHRASE, cut_off=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. The clown.\n2. It is on the right.\n3. It is an object of a different kind.", Parsed(3, None)),
        ("The image on the left is the least similar.", Parsed(1, None)),
        ("The middle image.", Parsed(2, None)),
        ("Answer: the rightmost object", Parsed(3, None)),
        ("Left", Parsed(1, None)),
        ("The third image, a dog, is least similar.", Parsed(3, None)),
        ("Image 2 is the least similar.", Parsed(2, None)),
        ("It is on the left or on the right.", Parsed(None, "several")),
        ("A dog.", Parsed(None, "no_position")),
        ("I cannot see any images.", Parsed(None, "refusal")),
        ("Image 5.", Parsed(None, "out_of_range")),
    ],
)
def test_a_location(text: str, expected: Parsed) -> None:
    assert parse(text, LOCATION) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Parsed(1, None)),
        (" 2", Parsed(2, None)),
        ("3.\n", Parsed(3, None)),
        ("4", Parsed(None, "out_of_range")),
        ("Video 1", Parsed(None, "no_position")),
        ("", Parsed(None, "empty")),
        ("12", Parsed(None, "out_of_range")),
    ],
)
def test_one_token(text: str, expected: Parsed) -> None:
    assert parse(text, ONE_TOKEN) == expected


def logprobs(*places: tuple[str, dict[str, float]]) -> str:
    content = [
        {
            "token": token,
            "logprob": math.log(top[token]),
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()],
        }
        for token, top in places
    ]
    return json.dumps({"content": content})


def test_probabilities_sum_over_spellings_and_keep_what_is_left() -> None:
    found = weigh(logprobs(("2", {"1": 0.1, "2": 0.5, " 2": 0.1, "3": 0.1, "Video": 0.15}))).probabilities
    assert found == pytest.approx(Probabilities(0.125, 0.75, 0.125, 0.2))


def test_an_empty_token_before_the_answer_is_passed_over() -> None:
    found = weigh(logprobs(("▁", {"▁": 1.0}), ("3", {"3": 0.9, "1": 0.1}))).probabilities
    assert found == pytest.approx(Probabilities(0.1, 0.0, 0.9, 0.0))


def test_the_sampled_token_counts_where_the_list_lacks_it() -> None:
    one = {"token": "1", "logprob": math.log(0.01), "top_logprobs": [{"token": "The", "logprob": math.log(0.9)}]}
    found = weigh(json.dumps({"content": [one]})).probabilities
    assert found == pytest.approx(Probabilities(1.0, 0.0, 0.0, 0.99))


@pytest.mark.parametrize("text", [None, "", "null", "{}", '{"content": null}', logprobs(("Video", {"Video": 0.9}))])
def test_no_probabilities(text: str | None) -> None:
    assert weigh(text).probabilities is None


def test_very_small_probabilities_do_not_vanish_into_an_error() -> None:
    place = {"token": "1", "logprob": -9999.0, "top_logprobs": [{"token": "2", "logprob": -9999.0}]}
    assert weigh(json.dumps({"content": [place]})).probabilities is None
