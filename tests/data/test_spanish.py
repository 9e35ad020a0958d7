"""Spanish text: one Unicode form, PadChest's stems, and the refusal of text in a wrong encoding."""

import unicodedata

import pytest

from nbcore.data.phantom import reports, world
from nbcore.data.spanish import check_spanish, normal_form, one_a_line, stemmed
from nbcore.errors import UserError

RIGHT = [  # a heading above them would be row 1
    "Índice cardiotorácico normal; senos costofrénicos libres.",
    "Pequeño derrame pleural. ¿Neumonía? ¡Valorar! «según clínica», 7º arco, 38 °C, 1,5 µg, 10³",
    "ÁÉÍÓÚÜÑ áéíóúüñ ªº – — … “comillas” ‘simples’ 5 € ± 2 ²",
    "pingüino, cigüeña, ruleta rusa, añadir, mañana, señal, año, riñón, muñeca",
    "São Paulo, SÃO PAULO, Ângela, Göteborg, Besançon",
    "",
]


def test_one_code_for_a_letter_and_its_accent() -> None:
    apart = unicodedata.normalize("NFD", "neumotórax pequeño")
    assert apart != "neumotórax pequeño" == normal_form(apart)


@pytest.mark.parametrize(
    ("text", "stems"),
    [  # the first two are the reports of Med-UniC's Fig. 7, without their clerical errors
        (
            "Fractura de arcos costales laterales derechos cuarto, quinto, sexto y séptimo. Condensación "
            "subsegmentaria en LII a descartar aspiración o sobreinfección respiratoria. Pinzamiento "
            "del seno costofrénico izquierdo.",
            "fractur arcos costal lateral derech cuart quint sext septim . condensacion subsegmentari lii descart "
            "aspiracion sobreinfeccion respiratori . pinzamient sen costofren izquierd .",
        ),
        (
            "Patrón intersticial con probable área de panalización bibasal, probable fibrosis pulmonar",
            "patron intersticial con probabl are panalizacion bibasal probabl fibrosis pulmon",
        ),
        ("Hilios prominentes. Redistribución vascular", "hili prominent . redistribucion vascul"),
        ("Insuficiencia cardíaca", "insuficient cardiac"),
        ("No hay derrame, ni sin masas; con MASA", "no derram ni sin masas con masa"),
        ("Pequeños nódulos, 7º arco; año 2010", "pequen nodul 7o arco ano 2010"),
        ("neumonía neumotórax atelectasia cardiomegalia", "neumoni neumotorax atelectasi cardiomegali"),
        ("", ""),
    ],
)
def test_stems_are_padchest_s(text: str, stems: str) -> None:
    assert stemmed(text) == stems
    assert stemmed(unicodedata.normalize("NFD", text)) == stems


def test_stems_are_lower_case_ascii_and_stay_as_they_are() -> None:
    for study in world.sample_studies(0, range(60), "south"):
        stems = stemmed(reports.write(study, "es").impression)
        assert set(stems) <= set("abcdefghijklmnopqrstuvwxyz0123456789. ") and "  " not in stems


def test_a_sentence_a_line_with_its_words_untouched() -> None:
    assert one_a_line(" sin hallazg .  patron  intersticial . . 1.5 cm .") == "sin hallazg\npatron intersticial\n1.5 cm"
    assert one_a_line("derrame pequen\u0303o") == "derrame pequeño"
    assert one_a_line(" . ") == one_a_line("") == ""


def test_right_text_is_never_refused() -> None:
    check_spanish(RIGHT, "a.csv")
    for study in world.sample_studies(1, range(200), "south"):
        report = reports.write(study, "es")
        text = f"{report.indication} {report.findings} {report.impression}"
        check_spanish([text, text.upper(), text.lower(), stemmed(text)], "a.csv")


LETTERS = "áéíóúüñÁÉÍÓÚÜÑ"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("lowered", [False, True])
def test_utf8_read_in_another_encoding_is_refused(letter: str, encoding: str, lowered: bool) -> None:
    for word in (f"a{letter}b", f"a{letter}", f"{letter}b"):
        try:
            misread = word.encode().decode(encoding)
        except UnicodeDecodeError:  # Windows-1252 has no sign for five bytes
            misread = word.encode().decode("latin-1")
        with pytest.raises(UserError, match=r"^a\.csv, row 3: .*; fetch the table again and save it as UTF-8$"):
            check_spanish(["neumotórax", misread.lower() if lowered else misread], "a.csv")


@pytest.mark.parametrize("text", ["neumonÃa", "a continuaciÃ", "Â¿edema?", "derrame\u00c2\u00a0pleural", "Â "])
def test_other_remains_of_it_are_refused_too(text: str) -> None:
    with pytest.raises(UserError, match=r"row 2: .* is UTF-8 read in another encoding"):
        check_spanish([text], "a.csv")


def test_a_lost_letter_is_refused_with_its_row() -> None:
    with pytest.raises(UserError, match=r"^a\.csv, row 5: 'un neumot\ufffdrax' has lost a letter; fetch"):
        check_spanish(["", "bien", "también", "un neumot\ufffdrax", "un derrame\ufffd"], "a.csv")
    with pytest.raises(UserError, match="row 5: "):  # a text of two lines
        check_spanish(["", "bien\ntambién", "un neumot\ufffdrax"], "a.csv")
