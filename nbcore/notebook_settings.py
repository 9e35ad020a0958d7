"""The settings of each notebook: its method's Config and the study's fields, with the paper's data sets.

Apart from `settings` because the methods import torch, which is not wanted before a notebook is asked for.
"""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, field_validator, model_validator

from nbcore.data.manifest import list_manifests, load_manifest
from nbcore.methods import biomedcoop, cocoop, coop, kgcoop, kmat, med_unic, meduna, mflag, mgca
from nbcore.methods.kmat import Solver
from nbcore.methods.prompt_learning import PromptConfig
from nbcore.models.text import Trainable
from nbcore.settings import AdaptationSettings, BackboneSettings, ModalityPair, RunSettings, StudySettings
from nbcore.validation import checked

Baseline = Literal["coop", "kgcoop", "cocoop", "biomedcoop"]
PROMPT_CONFIGS: dict[str, type[PromptConfig]] = {
    "coop": coop.Config,
    "cocoop": cocoop.Config,
    "kgcoop": kgcoop.Config,
    "biomedcoop": biomedcoop.Config,
    "kmat": kmat.Config,
}


class MFlagSettings(mflag.Config, StudySettings):
    """M-FLAG's."""

    probe_on: list[str] = Field(["mimic-cxr", "chexpert", "nih-chestxray14"], min_length=1, description="Sect. 3.2")
    segment_on: list[str] = Field(["siim-acr", "rsna-pneumonia"], description="Sect. 3.2")
    detect_on: list[str] = Field(["rsna-pneumonia"], description="Sect. 3.2")
    compare: list[str] = Field(["convirt", "gloria", "mgca"], description="Table 2")
    unfreeze: list[int] = Field([1, 2, 3, 4, 5, 6], description="Table 5: the n of Unfreeze_n")


class MgcaSettings(mgca.Config, StudySettings):
    """MGCA's."""

    probe_on: list[str] = Field(["chexpert", "rsna-pneumonia", "covidx"], min_length=1, description="Sect. 4.2")
    segment_on: list[str] = Field(["siim-acr", "rsna-pneumonia"], description="Sect. 4.2")
    detect_on: list[str] = Field(["rsna-pneumonia", "object-cxr"], description="Sect. 4.2")
    transformer: str | None = Field("vit_base_patch16", description="Table 1's other backbone; null leaves it out")
    natural: str | None = Field(
        "timm/vit_base_patch16_clip_224.laion2b", description="ours: OpenCLIP's, for Table 5; the paper has BLIP"
    )
    natural_vision: str = Field("clip_vit_base_patch16", description="ours: the network of `natural`")
    ablate_transformer: bool = Field(True, description="Sect. 4.4: Table 4 classifies with the transformer")
    transformer_weights: str | None = Field(
        "timm/deit_base_patch16_224.fb_in1k", description="code: DeiT, what the transformer starts from"
    )


class MedUnicSettings(med_unic.Config, StudySettings):
    """Med-UniC's."""

    pretrain_on: str = Field("mimic-cxr", description="Sect. 4.1: English pairs; those of the other methods")
    pretrain_also: list[str] = Field(["padchest"], description="Sect. 4.1: Spanish pairs")
    probe_on: list[str] = Field(["chexpert", "rsna-pneumonia", "covidx"], min_length=1, description="Sect. 4.2")
    segment_on: list[str] = Field(["siim-acr", "rsna-pneumonia"], description="Sect. 4.2")
    detect_on: list[str] = Field(["rsna-pneumonia", "object-cxr"], description="Sect. 4.2")
    point_on: list[str] = Field(
        ["chexlocalize", "siim-acr", "rsna-pneumonia"], description="Fig. 5, which does not name its pictures"
    )
    zero_shot_on: list[str] = Field(["chexlocalize", "padchest"], description="Sect. 4.2: CXP500 and PDC")
    prompt_style: Literal["paper", "official"] = Field("paper", description='Sect. 4.2: "{d}", "No {d}"')
    gradcam_stage: int = Field(4, ge=1, le=4, description="code: layer 4 of the ResNet")
    stem_prompts: bool = Field(True, description="code: Spanish prompts are stems, as PadChest's reports are")
    compare: list[str] = Field(["convirt", "gloria", "mgca"], description="Tables 1 to 3; those without annotations")
    transformers: dict[str, dict[str, str | None]] = Field(
        {
            "Med-UniC (ViT-B/16)": {
                "vision": "vit_base_patch16",
                "vision_weights": "timm/vit_base_patch16_224.mae",
            },
            "Med-UniC (ViT-L/32)": {
                "vision": "vit_large_patch32",
                "vision_weights": "timm/vit_large_patch32_224.orig_in21k",
            },
        },
        description="Table 2's other backbones; weights: MAE in the code, none named for ViT-L/32",
    )
    natural: str | None = Field("timm/vit_giant_patch14_dinov2.lvd142m", description="Table 5: DINOv2")
    natural_vision: str = Field("dinov2_vit_giant_patch14", description="Table 5")
    thaw: dict[str, Trainable] = Field(
        {"0": "all", "6": 6, "12": 0}, description="Table 6: layers frozen -> last layers trained"
    )
    ablate_ctr: bool = Field(True, description="Table 12: without TF, without TT")
    ablate_spanish: bool = Field(True, description="Table 13: English pairs alone")
    ctr_widths: list[int] = Field([512, 2048], description="Table 14, beside ctr_width")

    @property
    def pair_sets(self) -> list[str]:
        return [self.pretrain_on, *self.pretrain_also]

    @property
    def test_sets(self) -> list[str]:
        return list(dict.fromkeys([*super().test_sets, *self.zero_shot_on, *self.point_on]))


class MedUnaSettings(meduna.Config, AdaptationSettings):
    """MedUnA's."""

    adapt_on: list[str] = Field(
        ["shenzhen-tb", "montgomery-tb", "kermany", "idrid", "isic2018"], min_length=1, description="Sect. 3.1"
    )
    backbones: dict[str, BackboneSettings] = Field(
        {
            "CLIP ViT-B/32": BackboneSettings(model="clip_vit_b32", weights="timm/vit_base_patch32_clip_224.openai"),
            "MedCLIP-Swin": BackboneSettings(model="medclip_swin", tokenizer="emilyalsentzer/Bio_ClinicalBERT"),
        },
        min_length=1,
        description="Sect. 3.1; MedCLIP's weights come from its own archive: name its folder",
    )
    main_backbone: str = Field("MedCLIP-Swin", description="Table 3, Fig. 5: what is shown for one backbone only")
    descriptions: str = Field("rich", description="ours: a set of descriptions, or your own JSON file or folder")
    description_sets: list[str] = Field(
        ["rich", "generic", "noisy"], description="ours: sets in the place of Table 3's language models"
    )
    compare: list[Literal["lafter", "tpt"]] = Field(["lafter", "tpt"], description="Table 1")
    lafter: dict[str, Any] = Field({}, description="ours: changes of LaFTer's configuration")
    tpt: dict[str, Any] = Field({}, description="ours: changes of TPT's configuration")
    collapse_check: bool = Field(True, description="ours: MedUnA once more, with the official entropy term")
    figure_4: str = Field("idrid", description="Fig. 4: its data set; the first one where it is absent")
    figure_5: str = Field("isic2018", description="Fig. 5: its data set; the first one where it is absent")

    @property
    def data_sets(self) -> list[str]:
        return list(self.adapt_on)


class KMatSettings(kmat.Config, AdaptationSettings):
    """K-MaT's."""

    pairs: dict[str, ModalityPair] = Field(
        {
            "Skin I": ModalityPair(high="mra-midas/dermoscopy", low="mra-midas/clinical"),
            "Skin II": ModalityPair(high="derm7pt/dermoscopy", low="derm7pt/clinical"),
            "Chest": ModalityPair(high="cc-ccii", low="covid-pneumonia-cxr"),
            "Breast": ModalityPair(high="dmid", low="busi"),
        },
        min_length=1,
        description="Table 1",
    )
    backbones: dict[str, BackboneSettings] = Field(
        {
            "BiomedCLIP": BackboneSettings(
                model="biomedclip", weights="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
            )
        },
        min_length=1,
        max_length=1,
        description="Sect. 3.1",
    )
    template: str = Field(
        "a photo of a {phrase}.", description="code of BiomedCoOp: zero-shot prompt of every data set"
    )
    shots: int = Field(16, ge=1, description="Sect. 3.1: images of each class")
    descriptions: str = Field("rich", description="ours; the paper's are GPT-5's: a set, or your own JSON folder")
    descriptions_each: int = Field(50, ge=1, description="Sect. 3.1: N_p, sentences a class and modality")
    compare: list[Baseline] = Field(["coop", "kgcoop", "cocoop", "biomedcoop"], description="Table 2")
    baselines: dict[Baseline, dict[str, Any]] = Field({}, description="ours: changes of their configurations")
    ablation: bool = Field(True, description="Table 3")
    solvers: list[Solver] = Field(
        ["proximal", "exact", "identity"], description="ours: further couplings that K-MaT is trained with"
    )
    weights_tried: list[NonNegativeFloat] = Field(
        [0.1, 10.0], description="ours: further fgw_weight, to see what high-end validation tells of them"
    )
    figure_2: str = Field("Chest", description="Fig. 2: its pair; the first one where it is absent")
    standin_pairs: dict[str, int] = Field(
        {"skin": 1600, "clinical": 300, "ct": 1600, "chest": 300, "mammography": 1600, "ultrasound": 300},
        description="ours: pictures of the atlas that stand-ins learn from, of the low-end modalities fewer",
    )
    standin_stem_epochs: int = Field(12, ge=1, description="ours: of the convolutions, which learn first")
    standin_image_epochs: int = Field(10, ge=0, description="ours: of the image encoder, to which texts are then tuned")
    standin_epochs: int = Field(12, ge=1, description="ours: of the text encoder")

    @property
    def data_sets(self) -> list[str]:
        sides = [side for pair in self.pairs.values() for side in pair.sides]
        return list(dict.fromkeys(side.partition("/")[0] for side in sides))

    @field_validator("pairs")
    @classmethod
    def _low_ends_are_never_learnt_from(cls, pairs: dict[str, ModalityPair]) -> dict[str, ModalityPair]:
        for side in {pair.low for pair in pairs.values()} & {pair.high for pair in pairs.values()}:
            raise ValueError(f"{side} is the low end of one pair and the high end of one, too; it would be learnt from")
        return pairs

    @field_validator("descriptions")
    @classmethod
    def _each_modality_has_its_own(cls, source: str) -> str:
        if source.endswith(".json"):
            raise ValueError(f"{source} would give both modalities the same text; name a folder with a file for each")
        return source

    @model_validator(mode="after")
    def _rivals_can_be_configured(self) -> Self:
        for name, own in self.baselines.items():
            checked(PROMPT_CONFIGS[name], own, f"baselines.{name}")
        return self

    @model_validator(mode="after")
    def _ablation_has_losses_to_leave_out(self) -> Self:
        if self.ablation and not (self.anchor_weight and self.fgw_weight):
            raise ValueError("Table 3 leaves out losses of weight above 0: set ablation false, or the weights above 0")
        return self


def _some_images() -> dict[str, int]:
    """Enough of each twin to look at; where a test split is a data set of its own, enough for that, too."""
    manifests = {name: load_manifest(name) for name in list_manifests()}
    wholes = {manifest.part_of.data_set for manifest in manifests.values() if manifest.part_of}
    return {name: 120 if name in wholes else 64 for name, own in manifests.items() if not own.part_of}


class TourSettings(RunSettings):
    """The tour's, which looks at data and learns nothing."""

    access: list[Literal["open", "registration", "credentialed"]] = Field(
        ["open", "registration", "credentialed"], min_length=1, description="ours: show data sets of these kinds"
    )
    seeds: int = Field(1, ge=1, description="ours: the first chooses the pictures")
    threads: int = Field(1, ge=1, description="ours: of the CPU")
    twin_images: dict[str, int] = Field(default_factory=_some_images, description="ours: images of each twin")
    images_each: int = Field(8, ge=1, description="ours: pictures of a data set beside each other")

    @property
    def data_sets(self) -> list[str]:
        return [name for name in list_manifests() if load_manifest(name).access in self.access]


SETTINGS: dict[str, type[RunSettings]] = {
    "mflag": MFlagSettings,
    "mgca": MgcaSettings,
    "med_unic": MedUnicSettings,
    "meduna": MedUnaSettings,
    "kmat": KMatSettings,
    "tour": TourSettings,
}
