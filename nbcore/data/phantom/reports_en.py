"""English radiology reports: phrases in the manner of a North American teaching hospital."""

from collections.abc import Mapping, Sequence

from nbcore.data.phantom.grammar import Grammar, third
from nbcore.data.phantom.world import OPACITIES, Finding

_ZONE = {
    "upper": ("{} upper lobe", "{} upper lung", "{} upper lung zone", "{} lung apex"),
    "middle": ("{} mid lung", "{} mid lung zone", "{} perihilar region"),
    "lower": ("{} lower lobe", "{} lung base", "{} lower lung zone", "{} base"),
    "": ("{} lung",),
}
_BOTH = {
    "upper": ("both upper lobes", "the bilateral upper lungs"),
    "middle": ("both mid lungs", "the bilateral perihilar regions"),
    "lower": ("both lower lobes", "both lung bases", "the bilateral lower lungs"),
    "": ("both lungs",),
}


def _words(finding: Finding) -> Mapping[str, Sequence[str]]:
    if finding.side == "bilateral":
        places = tuple(f"in {place}" for place in _BOTH[finding.zone])
    else:
        places = tuple(f"in the {place.format(finding.side)}" for place in _ZONE[finding.zone])
    return {
        "side": (finding.side,),
        "place": places,
        "degree": (("mild", "minimal", "subtle"), ("moderate",), ("marked", "severe", "extensive"))[
            third(finding.severity)
        ],
        "amount": (("small", "tiny"), ("moderate", "moderate-sized"), ("large",))[third(finding.severity)],
    }


_NOUNS = {
    "atelectasis": (
        "linear atelectasis {place}", "{degree} platelike atelectasis {place}", "bandlike atelectasis {place}",
        "subsegmental atelectasis {place}", "discoid atelectasis {place}", "{degree} atelectasis {place}",
    ),
    "cardiomegaly": (
        "{degree} cardiomegaly", "{degree} enlargement of the cardiac silhouette", "cardiomegaly",
        "a|increased cardiothoracic ratio", "{degree} enlargement of the heart",
    ),
    "consolidation": (
        "focal consolidation {place}", "consolidation {place}", "patchy consolidation {place}",
        "airspace consolidation {place}", "a|dense consolidative opacity {place}",
    ),
    "covid": (
        "s|peripheral ground-glass opacities {place}, typical of COVID-19", "s|multifocal COVID-19 opacities",
        "s|bilateral peripheral patchy opacities compatible with COVID-19",
        "peripheral ground-glass change from COVID-19",
    ),
    "edema": (
        "{degree} pulmonary edema", "{degree} interstitial edema", "bilateral perihilar edema with septal lines",
        "{degree} pulmonary vascular congestion with edema", "{degree} pulmonary edema with Kerley B lines",
    ),
    "effusion": (
        "a|{amount} {side} pleural effusion", "a|{side} pleural effusion", "a|layering {side} pleural effusion",
        "blunting of the {side} costophrenic angle from pleural effusion", "a|{amount} {side} effusion",
    ),
    "effusion:bilateral": (
        "s|{amount} bilateral pleural effusions", "s|bilateral pleural effusions", "s|{amount} bilateral effusions",
        "blunting of both costophrenic angles from pleural effusions",
    ),
    "emphysema": (
        "{degree} emphysema", "hyperinflation with flattened diaphragms, in keeping with emphysema",
        "upper lobe bullous emphysema", "hyperinflation with emphysematous change",
    ),
    "enlarged_mediastinum": (
        "a|widened mediastinum", "{degree} widening of the superior mediastinum",
        "an|enlarged cardiomediastinal contour with a wide mediastinum", "mediastinal widening",
    ),
    "fibrosis": (
        "s|reticular opacities {place} consistent with fibrosis", "{degree} fibrosis {place}",
        "s|fibrotic changes {place}", "peripheral reticulation {place} from interstitial fibrosis",
    ),
    "coin": (
        "a|round metallic foreign body, likely a coin, over the {side} chest", "a|coin-like foreign body on the {side}",
    ),
    "ring": ("a|ring-shaped metallic foreign body over the {side} chest", "a|metallic ring foreign body on the {side}"),
    "pin": ("a|linear metallic foreign body over the {side} chest", "a|needle-like foreign body on the {side}"),
    "button": ("a|button-like foreign body over the {side} chest", "an|overlying foreign body on the {side}, a button"),
    "fracture": (
        "a|displaced {side} rib fracture", "a|{side} lateral rib fracture", "a|fracture of a {side} rib",
        "a|{side} rib fracture with callus",
    ),
    "hernia": (
        "a|hiatal hernia", "a|{amount} hiatal hernia", "a|retrocardiac hiatal hernia with an air-fluid level",
        "a|{amount} hiatus hernia behind the heart",
    ),
    "infiltration": (
        "an|ill-defined infiltrate {place}", "a|patchy infiltrate {place}", "a|{degree} hazy infiltrate {place}",
        "a|peribronchial infiltrate {place}",
    ),
    "mass": (
        "a|large mass {place}", "a|lobulated mass {place}", "a|mass {place} suspicious for malignancy",
        "a|well-defined mass {place}",
    ),
    "nodule": (
        "a|pulmonary nodule {place}", "a|small nodule {place}", "a|rounded nodule {place}", "a|nodular opacity {place}",
        "a|solitary nodule {place}",
    ),
    "nodule:bilateral": ("s|bilateral pulmonary nodules", "s|nodules {place}", "s|small nodules {place}"),
    "pleural_thickening": (
        "{side} pleural thickening", "{degree} {side} pleural thickening", "{side} lateral pleural thickening",
        "scalloped {side} pleural thickening",
    ),
    "bacterial": (
        "lobar pneumonia {place}", "consolidation {place} with air bronchograms, compatible with pneumonia",
        "pneumonia {place}", "dense pneumonia {place}", "an|airspace opacity {place} consistent with pneumonia",
    ),
    "viral": (
        "s|peribronchial infiltrates {place} suggesting viral pneumonia", "interstitial pneumonia {place}",
        "atypical pneumonia {place}", "s|increased interstitial markings {place}, likely viral pneumonia",
    ),
    "pneumothorax": (
        "a|{amount} {side} apical pneumothorax", "a|{side} pneumothorax", "a|{amount} {side} pneumothorax",
        "a|{side} pneumothorax with a visible pleural line",
    ),
    "pacemaker": (
        "a|left chest wall pacemaker with its lead in the right ventricle", "a|left-sided single lead pacemaker",
    ),
    "central_line": (
        "a|right internal jugular central venous catheter with its tip in the SVC",
        "a|right central line terminating in the superior vena cava",
    ),
    "endotracheal_tube": (
        "an|endotracheal tube above the carina", "an|endotracheal tube in standard position",
        "an|ET tube in the mid trachea",
    ),
    "nasogastric_tube": (
        "a|nasogastric tube coursing into the stomach", "an|enteric tube with its tip below the diaphragm",
    ),
    "sternal_wires": ("s|median sternotomy wires", "s|intact sternotomy wires", "s|sternal wires after sternotomy"),
    "tuberculosis": (
        "a|cavitary lesion {place} suspicious for tuberculosis", "fibrocavitary disease {place} from tuberculosis",
        "active tuberculosis {place}", "s|nodular and cavitary opacities {place}, concerning for tuberculosis",
    ),
}  # fmt: skip

_LUNG_DISEASE = OPACITIES | {"emphysema"}
GRAMMAR = Grammar(
    nouns=_NOUNS,
    words=_words,
    definite=(
        "{noun}", "{noun}", "there {is} {noun_a}", "{noun} {is} present", "{noun} {is} noted", "{noun} {is} seen",
        "note is made of {noun_a}",
    ),
    hedged=(
        "possible {noun}", "questionable {noun}", "{noun} cannot be excluded", "findings may represent {noun_a}",
        "suspected {noun}", "{noun} {is} not excluded", "appearance raises the possibility of {noun_a}",
    ),
    denying=(
        "no {noun}", "there is no {noun}", "no evidence of {noun}", "there is no evidence of {noun}",
        "negative for {noun}",
    ),
    denials={
        "consolidation": ("focal consolidation", "consolidation", "airspace consolidation"),
        "effusion": ("pleural effusion", "effusion"),
        "pneumothorax": ("pneumothorax",),
        "edema": ("pulmonary edema", "edema", "frank pulmonary edema"),
        "nodule": ("pulmonary nodule", "suspicious nodule"),
        "fracture": ("displaced rib fracture", "acute fracture"),
    },
    nor="or",
    number=("is", "are"),
    normal=(
        (frozenset({"cardiomegaly"}), ("heart size is normal", "the heart is normal in size", "heart is not enlarged")),
        (
            frozenset({"cardiomegaly", "enlarged_mediastinum", "hernia"}),
            ("the cardiomediastinal silhouette is within normal limits", "normal cardiomediastinal contours"),
        ),
        (
            frozenset({"enlarged_mediastinum"}),
            ("mediastinal contours are unremarkable", "the mediastinum is not widened"),
        ),
        (_LUNG_DISEASE, ("the lungs are clear", "lungs are clear", "both lungs are well expanded and clear")),
        (
            frozenset({"effusion", "pneumothorax", "pleural_thickening"}),
            ("pleural surfaces are normal", "the pleural spaces are clear"),
        ),
        (frozenset({"fracture"}), ("the osseous structures are intact", "no acute bony abnormality")),
    ),
    clear=(
        "no acute cardiopulmonary process", "no acute cardiopulmonary abnormality", "normal chest radiograph",
        "no acute intrathoracic process", "no radiographic evidence of acute disease", "no acute findings",
    ),
    advice=(
        "clinical correlation is recommended", "follow-up radiograph is suggested", "consider chest CT",
        "recommend follow-up to resolution", "findings were discussed with the referring team",
    ),
    remarks={
        "PA": ("PA view of the chest", "frontal PA radiograph of the chest", "upright PA view"),
        "AP": ("single portable AP view of the chest", "portable AP radiograph", "semi-upright AP view of the chest"),
        "lateral": ("lateral view of the chest", "lateral chest radiograph"),
        "previous": ("comparison is made with the prior study", "compared with the previous radiograph"),
        "first": ("no prior studies are available for comparison", "comparison: none"),
        "inspiration": ("low lung volumes", "the lung volumes are low", "limited inspiratory effort"),
        "rotation": ("the patient is rotated", "patient rotation limits the evaluation"),
        "spine": ("degenerative changes of the thoracic spine", "mild degenerative changes in the spine"),
        "aorta": ("the aorta is tortuous", "aortic calcification", "mildly tortuous thoracic aorta"),
    },
    complaints={
        "heart": ("shortness of breath", "dyspnea and leg swelling", "congestive heart failure", "orthopnea"),
        "infection": ("fever and cough", "productive cough", "fever", "sepsis", "cough, evaluate for infection"),
        "smoking": ("chronic cough", "weight loss", "smoking history", "COPD with worsening dyspnea"),
        "trauma": ("chest pain", "fall", "motor vehicle collision", "sudden pleuritic chest pain"),
        "control": ("check line placement", "post-operative evaluation", "intensive care follow-up"),
        "general": ("chest pain", "cough", "preoperative evaluation", "routine examination", "dyspnea", "weakness"),
    },
    persons={
        "F": ("{age}-year-old woman", "{age}-year-old female", "{age}F"),
        "M": ("{age}-year-old man", "{age}-year-old male", "{age}M"),
    },
    indications=("{reason}", "{person}, {reason}", "{reason} in {person}"),
)  # fmt: skip
