"""Reading of ratings and names: the printed answers, and phrases in which a number or a "no" is something else."""

from __future__ import annotations

import pytest

from affectlake.judge.responses.intensities import Intensity, Named, read_intensity, read_name

FEAR = "Fear, safety-low, control-low"

EXPLOSION = """The video depicts a scene of a vehicle driving through a desert landscape, with a large explosion occurring in the background. The explosion is quite intense, with a large amount of debris and smoke being thrown into the air. The vehicle appears to be moving quickly, and there is a sense of urgency and danger in the scene.

Based on this description, I would say that the video conveys a strong sense of fear and low safety. The explosion is quite dramatic and intense, and the vehicle appears to be in danger of being caught in the blast. The sense of urgency and danger is heightened by the fact that the vehicle is moving quickly, and there is a sense of the explosion happening in the background.

On a scale from 1 to 10, I would rate the intensity of the "Fear, safety-low, control-low" conveyed in the video as a 9. The explosion is quite dramatic and intense, and the sense of danger is palpable. The vehicle appears to be in immediate danger, and there is a sense of urgency and tension in the scene. Overall, the video is quite effective in conveying a strong sense of fear."""  # noqa: E501 - verbatim, Extended Data Fig. 17 left

SUNSET = """The video depicts a serene scene of a person standing next to a white SUV parked on a road with a beautiful sunset in the background. The colors of the sky are warm and inviting, and the overall atmosphere is peaceful and calm. As an expert in analyzing emotions conveyed in videos, I would describe my emotional response to this video as one of tranquility and contentment.

Regarding the perception of the emotion of "Fear, safety-low, control-low" I do not perceive any fear and low-safety in this video. The scene is peaceful and serene, with no indication of any danger or threat. The sunset and the natural surroundings evoke a sense of calm and relaxation, rather than fear or anxiety. Therefore, I would rate the intensity of the emotion as 0 on a scale from 1 to 10."""  # noqa: E501 - verbatim, right

PHRASES: list[tuple[str, float | str]] = [
    (EXPLOSION, 9),
    (SUNSET, "zero"),
    # numbers
    ("7", 7),
    ("7.", 7),
    ("**7/10**", 7),
    ("7/10", 7),
    ("8.5", 8.5),
    ("I would give it an 8.5 out of 10.", 8.5),
    ("7 out of 10", 7),
    ("7 out of ten, because of the smoke.", 7),
    ("Seven out of ten.", 7),
    ("I rate it seven.", 7),
    ("I would rate its intensity as seven and a half.", 7.5),
    ("Rating: 6", 6),
    ("Intensity: 6 (moderate)", 6),
    ("Intensity - 6", 6),
    ("Yes. I'd rate the intensity at around 4 on a scale of 1-10.", 4),
    ("Yes, on a scale from 1 to 10, with 1 being the lowest and 10 being the highest, I would give it a 3.", 3),
    ("The intensity of Fear, safety-low, control-low is a 10.", 10),
    ("There are 3 people and 2 dogs. I would rate the intensity as 5.", 5),
    ("I rate it 5 because 12 people run away.", 5),
    ("The fear is strong. It is a 9 on a scale from 1 to 10.", 9),
    ("I would rate it as an 8. In the end, 2 cars burn.", 8),
    ("No doubt, this is frightening: I would rate it as 9.", 9),
    ("No music is heard, but the intensity is 4.", 4),
    ("If so, rate its intensity: 8", 8),
    ("I would rate it 3. Wait, on reflection I would rate it 6.", 6),
    ("I would rate the intensity of the emotion as 2/10. The 5 children are laughing.", 2),
    ("The scene lasts 8 seconds.\n\nRating: 2", 2),
    ("I would not hesitate: I rate it as 9.", 9),
    ("<think>Maybe 3? Or 5.</think>I rate it as 4.", 4),
    ("Die Intensität ist 7/10.", 7),
    ("Ich sehe Angst. 强度: 7/10", 7),
    ("Die Intensität bewerte ich mit 8,5/10.", 8.5),
    ("The score is 4 points.", 4),
    ("1. A car explodes.\n2. Rating: 9\n3. The reason is the smoke.", 9),
    ("1. A car explodes.\n2. I feel fear.\n3. 8/10", 8),
    ("On a scale of 1 (low) to 10 (high), I'd rate 6.", 6),
    ("The man says: No. I would rate it as 8.", 8),
    ("I'd place this at a 6 on the 1-10 scale.", 6),
    ("The answer is 7", 7),
    # zero and no
    ("0", "zero"),
    ("I would rate it 0/10.", "zero"),
    ("Zero.", "zero"),
    ("The video is calm. Rating: 0.", "zero"),
    ("No.", "no"),
    ("No", "no"),
    ('"No."', "no"),
    ("A dog plays in the garden. I feel happy.\n\nNo. The scene is calm.", "no"),
    ("No, the scene is peaceful.", "no"),
    ("My answer is no.", "no"),
    ("I can't perceive the emotion of fear in this video.", "no"),
    ("I do not perceive any fear in this video. 3 children play.", "no"),
    ("There is no fear in this scene.", "no"),
    ("The video does not evoke fear.", "no"),
    ("The emotion of Fear, safety-low, control-low is not present.", "no"),
    ("No. I would rate it 0.", "zero"),
    # reasons
    ("", "empty"),
    ("  \n", "empty"),
    ("<think>It looks like", "truncated"),
    ("I'm sorry, but I can't view videos.", "refusal"),
    ("As an AI, I do not perceive emotions.", "refusal"),
    ("视频中有爆炸，让人感到害怕。", "other_language"),
    ("The scene is frightening.", "no_rating"),
    ("Yes.", "no_rating"),
    ("No doubt about it, this is scary.", "no_rating"),
    ("There is no music. 2 men run.", "no_rating"),
    ("No one is there.", "no_rating"),
    ("There is no sense of safety in this scene.", "no_rating"),
    ("I do not perceive a strong fear.", "no_rating"),
    ("I would rate its intensity on a scale from 1 to 10.", "no_rating"),
    ("Rate its intensity on a scale from 1 to 10, with a higher score indicating a greater degree of intensity. "
     'Otherwise, simply respond with "No."', "no_rating"),
    ("12 people run. At the end there are 4.", "no_rating"),
    ("The level of noise is high, with 7 explosions.", "no_rating"),
    ("The intensity of 2 explosions is felt.", "no_rating"),
    ("I would rate it at least 6.", "no_rating"),
    ("I would not rate it as a 9.", "no_rating"),
    ("If there were fire, I would rate it 8.", "no_rating"),
    ("Some viewers might rate it as 9.", "no_rating"),
    ("Would I rate it as 9?", "no_rating"),
    ("I would rate it 6-7.", "several"),
    ("I rate the intensity between 6 and 7.", "several"),
    ("I rate it 6 or 7.", "several"),
    ("I rate the fear as 7. I rate the control as 3.", "several"),
    ("I would rate it as 11.", "out_of_range"),
    ("Rating: -3", "out_of_range"),
    ("I would rate it 0.8.", "out_of_range"),
    ("The intensity is 70%.", "out_of_range"),
    ("I would give it 4/5.", "out_of_range"),
    ("No. I would rate it as 7.", "contradiction"),
    ("I do not perceive any fear. I would rate it 6.", "contradiction"),
]  # fmt: skip


def wanted(told: float | str) -> Intensity:
    if isinstance(told, str):
        return Intensity(0.0, told, None) if told in ("zero", "no") else Intensity(None, None, told)  # type: ignore[arg-type]
    return Intensity(float(told), "number", None)


@pytest.mark.parametrize(("text", "told"), PHRASES)
def test_phrases(text: str, told: float | str) -> None:
    assert read_intensity(text, FEAR) == wanted(told)


def test_labels_with_numbers_are_not_ratings() -> None:
    assert read_intensity("I perceive Awe 10 here.", "Awe 10").reason == "no_rating"
    assert read_intensity("The intensity of Awe 10 is 4.", "Awe 10").value == 4


def test_an_answer_cut_off_before_its_rating_is_truncated() -> None:
    assert read_intensity("The video shows a car and", FEAR, cut_off=True).reason == "truncated"
    assert read_intensity("I rate it 7. The reason is", FEAR, cut_off=True).value == 7


def test_only_the_label_asked_for_can_be_absent() -> None:
    assert read_intensity("There is no joy in this scene.", FEAR).reason == "no_rating"
    assert read_intensity("There is no joy in this scene.", "Joy").said == "no"


OPTIONS = ["Fear, safety-low", "Joy", "Joy, safety-high", "Calmness"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A calm lake.\n\nLabel: 4", 3),
        ("I see 3 ducks.\nLabel: 1.", 0),
        ("There are 2 people.\nJoy, safety-high", 2),
        ("The last one is Joy", 1),
        ("Label: 2\nLabel: 3", "several"),
        ("Joy or Calmness", "several"),
        ("Label: 9", "out_of_range"),
        ("Label: 0", "out_of_range"),
        ("Joyful people, 3 of them.", "no_label"),
        ("I'm sorry, I can't.", "refusal"),
        ("", "empty"),
        ("<think>", "truncated"),
    ],
)
def test_names(text: str, told: int | str) -> None:
    assert read_name(text, OPTIONS) == (Named(told, None) if isinstance(told, int) else Named(None, told))  # type: ignore[arg-type]
