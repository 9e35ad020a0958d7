"""Informes radiológicos en español: the terse, telegraphic manner of Spanish hospitals."""

from collections.abc import Mapping, Sequence

from nbcore.data.phantom.grammar import Grammar, third
from nbcore.data.phantom.world import OPACITIES, Finding

_PLACES = {
    ("upper", "right"): ("en lóbulo superior derecho", "en LSD", "en vértice derecho", "en campo superior derecho"),
    ("upper", "left"): (
        "en lóbulo superior izquierdo",
        "en LSI",
        "en vértice izquierdo",
        "en campo superior izquierdo",
    ),
    ("upper", "bilateral"): ("en ambos vértices", "en ambos lóbulos superiores", "en ambos campos superiores"),
    ("middle", "right"): ("en lóbulo medio", "en campo medio derecho", "en región perihiliar derecha"),
    ("middle", "left"): ("en língula", "en campo medio izquierdo", "en región perihiliar izquierda"),
    ("middle", "bilateral"): ("en ambos campos medios", "en ambas regiones perihiliares"),
    ("lower", "right"): ("en lóbulo inferior derecho", "en LID", "en base derecha", "en campo inferior derecho"),
    ("lower", "left"): ("en lóbulo inferior izquierdo", "en LII", "en base izquierda", "en campo inferior izquierdo"),
    ("lower", "bilateral"): ("en ambas bases", "en ambos lóbulos inferiores", "en ambos campos inferiores"),
}
_MASCULINE = {"right": "derecho", "left": "izquierdo", "bilateral": "bilateral", "": ""}
_FEMININE = {"right": "derecha", "left": "izquierda", "bilateral": "bilateral", "": ""}


def _words(finding: Finding) -> Mapping[str, Sequence[str]]:
    return {
        "lado": (_MASCULINE[finding.side],),
        "lada": (_FEMININE[finding.side],),
        "sitio": _PLACES.get((finding.zone, finding.side), ("en ambos hemitórax",)),
        "grada": (("leve", "discreta", "mínima"), ("moderada",), ("importante", "marcada", "severa"))[
            third(finding.severity)
        ],
        "cantidad": (
            ("de pequeña cuantía", "mínimo", "leve"), ("de moderada cuantía", "moderado"),
            ("de gran cuantía", "masivo", "importante"),
        )[third(finding.severity)],
    }  # fmt: skip


_NOUNS = {
    "atelectasis": (
        "atelectasia laminar {sitio}", "s|atelectasias laminares {sitio}", "atelectasia subsegmentaria {sitio}",
        "{grada} pérdida de volumen con atelectasia {sitio}", "s|bandas atelectásicas {sitio}",
    ),
    "cardiomegaly": (
        "cardiomegalia", "{grada} cardiomegalia", "índice cardiotorácico aumentado",
        "aumento del índice cardiotorácico", "silueta cardiaca aumentada de tamaño", "cardiomegalia {grada}",
    ),
    "consolidation": (
        "consolidación {sitio}", "condensación {sitio}", "foco de consolidación {sitio}",
        "aumento de densidad {sitio} compatible con consolidación", "condensación parcheada {sitio}",
    ),
    "covid": (
        "s|opacidades periféricas bilaterales compatibles con neumonía COVID-19", "neumonía bilateral por COVID-19",
        "s|opacidades en vidrio deslustrado periféricas sugestivas de infección por COVID-19",
    ),
    "edema": (
        "edema pulmonar", "edema intersticial con líneas B de Kerley", "{grada} congestión con edema pulmonar",
        "s|signos de edema pulmonar", "patrón en alas de mariposa por edema pulmonar",
    ),
    "effusion": (
        "derrame pleural {lado}", "derrame pleural {lado} {cantidad}", "derrame {lado} {cantidad}",
        "pinzamiento del seno costofrénico {lado} por derrame pleural", "derrame pleural {lado} libre",
    ),
    "effusion:bilateral": (
        "derrame pleural bilateral", "derrame pleural bilateral {cantidad}",
        "pinzamiento de ambos senos costofrénicos por derrame pleural",
    ),
    "emphysema": (
        "enfisema pulmonar", "hiperinsuflación pulmonar con aplanamiento diafragmático por enfisema",
        "{grada} hiperclaridad pulmonar por enfisema", "enfisema bulloso en lóbulos superiores",
        "s|signos de atrapamiento aéreo y enfisema",
    ),
    "enlarged_mediastinum": (
        "ensanchamiento mediastínico", "ensanchamiento del mediastino superior", "mediastino ensanchado",
        "{grada} prominencia mediastínica con ensanchamiento del mediastino",
    ),
    "fibrosis": (
        "patrón reticular {sitio} por fibrosis", "s|signos de fibrosis {sitio}",
        "s|tractos fibrosos con fibrosis {sitio}", "fibrosis intersticial {sitio}",
    ),
    "coin": ("cuerpo extraño metálico redondo en hemitórax {lado}", "cuerpo extraño tipo moneda en hemitórax {lado}"),
    "ring": ("cuerpo extraño metálico anular en hemitórax {lado}", "cuerpo extraño en anillo en hemitórax {lado}"),
    "pin": ("cuerpo extraño metálico lineal en hemitórax {lado}", "cuerpo extraño tipo aguja en hemitórax {lado}"),
    "button": ("cuerpo extraño tipo botón en hemitórax {lado}", "cuerpo extraño (botón) sobre hemitórax {lado}"),
    "fracture": (
        "fractura costal {lada}", "fractura de arco costal {lado}", "fractura costal {lada} desplazada",
        "callo de fractura costal {lada}",
    ),
    "hernia": (
        "hernia de hiato", "imagen retrocardiaca con nivel hidroaéreo por hernia de hiato", "hernia hiatal",
        "gran hernia de hiato",
    ),
    "infiltration": (
        "infiltrado {sitio}", "infiltrado intersticial {sitio}", "infiltrado mal definido {sitio}",
        "infiltrado parcheado {sitio}",
    ),
    "mass": (
        "masa {sitio}", "masa de bordes lobulados {sitio}", "masa pulmonar {sitio} sospechosa de malignidad",
        "gran masa {sitio}",
    ),
    "nodule": (
        "nódulo pulmonar {sitio}", "nódulo {sitio}", "imagen nodular {sitio}", "pequeño nódulo {sitio}",
        "nódulo pulmonar solitario {sitio}",
    ),
    "nodule:bilateral": ("s|nódulos pulmonares bilaterales", "s|nódulos {sitio}", "s|imágenes nodulares {sitio}"),
    "pleural_thickening": (
        "engrosamiento pleural {lado}", "engrosamiento pleural {lado} de aspecto residual", "paquipleuritis {lada}",
        "engrosamiento de la pleura {lada}",
    ),
    "pleural_thickening:bilateral": ("engrosamiento pleural bilateral", "paquipleuritis bilateral"),
    "bacterial": (
        "neumonía {sitio}", "neumonía lobar {sitio}",
        "condensación {sitio} con broncograma aéreo compatible con neumonía",
        "neumonía con consolidación {sitio}",
    ),
    "viral": (
        "infiltrado intersticial {sitio} sugestivo de neumonía vírica", "neumonía intersticial {sitio}",
        "neumonía atípica {sitio}", "engrosamiento peribronquial {sitio} en relación con neumonía vírica",
    ),
    "pneumothorax": (
        "neumotórax {lado}", "neumotórax apical {lado}", "neumotórax {lado} {cantidad}", "cámara de neumotórax {lado}",
    ),
    "pacemaker": ("marcapasos con generador izquierdo y electrodo en ventrículo derecho", "marcapasos unicameral"),
    "central_line": (
        "catéter venoso central por yugular derecha con extremo en vena cava superior",
        "vía central derecha con extremo en VCS",
    ),
    "endotracheal_tube": ("tubo endotraqueal normoposicionado", "tubo endotraqueal por encima de la carina"),
    "nasogastric_tube": ("sonda nasogástrica con extremo en cámara gástrica", "SNG en estómago"),
    "sternal_wires": ("s|suturas de esternotomía media", "s|cerclajes de esternotomía", "s|alambres de esternotomía"),
    "tuberculosis": (
        "lesión cavitada {sitio} sugestiva de tuberculosis", "tuberculosis activa {sitio}",
        "s|lesiones fibrocavitarias {sitio} por tuberculosis",
        "s|opacidades nodulares y cavitadas {sitio}, a descartar tuberculosis",
    ),
}  # fmt: skip

_LUNG_DISEASE = OPACITIES | {"emphysema"}
GRAMMAR = Grammar(
    nouns=_NOUNS,
    words=_words,
    definite=(
        "{noun}", "{noun}", "{noun}", "se observa{is} {noun}", "se aprecia{is} {noun}", "se identifica{is} {noun}",
        "se visualiza{is} {noun}",
    ),
    hedged=(
        "posible {noun}", "dudosa imagen de {noun}", "no se puede descartar {noun}", "hallazgos sugestivos de {noun}",
        "probable {noun}", "a valorar {noun}", "imagen que podría corresponder a {noun}",
    ),
    denying=(
        "no se observa{is} {noun}", "sin {noun}", "no se aprecia{is} {noun}", "no hay {noun}",
        "sin evidencia de {noun}", "no se identifica{is} {noun}",
    ),
    denials={
        "consolidation": ("condensación", "s|focos de consolidación", "s|imágenes de condensación"),
        "effusion": ("derrame pleural", "derrame"),
        "pneumothorax": ("neumotórax",),
        "edema": ("edema pulmonar", "edema"),
        "nodule": ("s|nódulos pulmonares", "s|nódulos"),
        "fracture": ("s|fracturas costales", "s|líneas de fractura"),
    },
    nor="ni",
    number=("", "n"),
    normal=(
        (
            frozenset({"cardiomegaly"}),
            ("índice cardiotorácico normal", "índice cardiotorácico en límites normales", "corazón de tamaño normal"),
        ),
        (
            frozenset({"cardiomegaly", "enlarged_mediastinum", "hernia"}),
            ("silueta cardiomediastínica normal", "silueta cardiomediastínica sin alteraciones"),
        ),
        (frozenset({"enlarged_mediastinum"}), ("mediastino centrado, de tamaño normal", "mediastino sin hallazgos")),
        (
            _LUNG_DISEASE,
            ("campos pulmonares sin alteraciones", "parénquima pulmonar sin infiltrados", "pulmones bien ventilados"),
        ),
        (
            frozenset({"effusion", "pleural_thickening"}),
            ("senos costofrénicos libres", "senos costofrénicos libres de ocupación"),
        ),
        (frozenset({"fracture"}), ("estructuras óseas sin alteraciones", "marco óseo sin lesiones agudas")),
    ),
    clear=(
        "sin alteraciones significativas", "sin hallazgos patológicos", "radiografía de tórax dentro de la normalidad",
        "sin hallazgos de significado patológico", "no se observan alteraciones pleuroparenquimatosas agudas",
        "estudio sin hallazgos valorables",
    ),
    advice=(
        "valorar en contexto clínico", "se recomienda control radiológico", "valorar completar con TC torácica",
        "a correlacionar con la clínica", "control evolutivo",
    ),
    remarks={
        "PA": ("Rx de tórax PA", "radiografía posteroanterior de tórax", "Rx tórax PA en bipedestación"),
        "AP": ("Rx de tórax AP portátil", "radiografía anteroposterior en decúbito", "estudio portátil AP"),
        "lateral": ("Rx lateral de tórax", "proyección lateral de tórax"),
        "previous": ("se compara con estudio previo", "comparado con Rx previa"),
        "first": ("no se dispone de estudios previos", "sin estudios previos para comparar"),
        "inspiration": ("estudio poco inspirado", "escasa inspiración", "Rx en inspiración insuficiente"),
        "rotation": ("paciente rotado", "estudio rotado, de calidad limitada"),
        "spine": ("cambios degenerativos en columna dorsal", "espondilosis dorsal"),
        "aorta": ("elongación aórtica", "aorta elongada y calcificada", "ateromatosis aórtica"),
    },
    complaints={
        "heart": ("disnea", "insuficiencia cardiaca", "disnea y edemas en miembros inferiores", "ortopnea"),
        "infection": ("fiebre y tos", "tos con expectoración", "fiebre", "sospecha de infección respiratoria"),
        "smoking": ("tos crónica", "síndrome constitucional", "fumador", "EPOC con aumento de disnea"),
        "trauma": ("dolor torácico", "caída", "accidente de tráfico", "dolor pleurítico súbito"),
        "control": ("comprobar posición de vía", "control posquirúrgico", "control en UCI"),
        "general": ("dolor torácico", "tos", "preoperatorio", "revisión", "disnea", "astenia"),
    },
    persons={
        "F": ("mujer de {age} años", "paciente mujer de {age} años"),
        "M": ("varón de {age} años", "paciente varón de {age} años"),
    },
    indications=("{reason}", "{person}, {reason}", "{reason} en {person}"),
)  # fmt: skip
