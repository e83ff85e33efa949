"""Every metric a run may report: what it means, its range, which way is better, and where it comes from.

Imports nothing heavy, so that ``ablation metrics`` can list it at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower", "near 1", "context"]


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """One metric key. ``better`` is ``context`` where no direction is better by itself.

    Of a label-free metric it is the direction in which its authors would choose among runs of one method.
    """

    summary: str
    range: str
    better: Better
    source: str


def _info(summary: str, limits: str, better: Better, source: str) -> MetricInfo:
    return MetricInfo(summary=summary, range=limits, better=better, source=source)


def _classifier(name: str, what: str) -> dict[str, MetricInfo]:
    """The seven numbers of one probe on the test set."""
    threshold = "threshold from validation at the test set's prevalence"
    return {
        f"{name}/auroc": _info(f"area under the ROC curve of {what}", "0..1, chance 0.5", "higher",
                               "Hanley & McNeil 1982"),
        f"{name}/ap": _info(f"average precision of {what}", "0..1, chance = prevalence of the test set", "higher",
                            "Davis & Goadrich, ICML 2006"),
        f"{name}/f1": _info(f"F1 of the defect class, {threshold} for F1", "0..1", "higher", "van Rijsbergen 1979"),
        f"{name}/f2": _info(f"F2 (recall counts more), {threshold} for F2", "0..1", "higher",
                            "van Rijsbergen 1979; Haurum & Moeslund, CVPR 2021"),
        f"{name}/balanced_accuracy": _info("(TPR + TNR) / 2 at the threshold of F1", "0..1, chance 0.5", "higher",
                                           "Brodersen et al., ICPR 2010"),
        f"{name}/fpr_at_95tpr": _info("share of normal images flagged when 95 % of the defects are found", "0..1",
                                      "lower", "Hendrycks & Gimpel, ICLR 2017"),
        f"{name}/precision_at_deployment": _info(
            "pi*TPR / (pi*TPR + (1-pi)*FPR) at pi = evaluation.deployment_prevalence, threshold from validation there",
            "0..1, chance = pi", "higher", "Bayes' rule"),
    }


_LABEL_FREE = {
    "rankme": _info("exp(entropy) of the normalised singular values of the features, uncentred, eps 1e-7",
                    "1..min(N, D)", "higher", "Garrido et al., ICML 2023, arXiv 2210.02885"),
    "rankme_embedding": _info("RankMe of the projector's output", "1..min(N, K)", "higher",
                              "Garrido et al., ICML 2023, arXiv 2210.02885"),
    "rankme_per_width": _info("RankMe over the feature width D", "1/D..1", "higher",
                              "Garrido et al., ICML 2023, arXiv 2210.02885"),
    "lidar": _info("exp(entropy) of the eigenvalues of the between-image over the within-image scatter", "1..D",
                   "higher", "Thilak et al., ICLR 2024, arXiv 2312.04000"),
    "alpha_req": _info("slope of ln(eigenvalue) against -ln(rank), ranks 10..99, weights 1/rank", ">= 0", "near 1",
                       "Agrawal et al., NeurIPS 2022"),
    "alpha_req_r2": _info("R² of the fit of alpha_req: how much of a power law there is", "<= 1", "context",
                          "Agrawal et al., NeurIPS 2022"),
    "nesum": _info("sum of the covariance eigenvalues over the largest", "1..D", "higher", "He & Ozay, ICML 2022"),
    "stable_rank": _info("squared Frobenius norm over squared spectral norm", "1..min(N, D)", "higher",
                         "Tsitsulin et al. 2023, arXiv 2305.16562"),
    "pseudo_condition": _info("largest over smallest singular value of the centred features", ">= 1", "lower",
                              "Tsitsulin et al. 2023, arXiv 2305.16562"),
    "coherence": _info("largest leverage of an image, relative to the mean one", "1..N/D", "lower",
                       "Tsitsulin et al. 2023, arXiv 2305.16562"),
    "isoscore": _info("share of dimensions used evenly", "0..1", "higher", "Rudman et al., Findings of ACL 2022"),
    "self_cluster": _info("excess of squared cosine similarities over random directions",
                          "about 0 random, 1 collapsed", "lower", "Tsitsulin et al. 2023, arXiv 2305.16562"),
    "uniformity": _info("ln of the mean Gaussian potential of pairs on the sphere", "-8..0", "lower",
                        "Wang & Isola, ICML 2020"),
    "alignment": _info("mean squared distance between two views of one image on the sphere", "0..4", "lower",
                       "Wang & Isola, ICML 2020"),
    "two_nn": _info("intrinsic dimension from the ratio of the first two neighbours' distances", "> 0", "higher",
                    "Facco et al., Sci. Rep. 2017"),
    "cluster_learnability": _info("held-out accuracy of 1-NN on k-means labels of the features", "0..1", "higher",
                                  "Lu et al. 2022, arXiv 2206.01251"),
}
_NEED_MORE = ("rankme_embedding", "lidar", "alignment")
"""Not computed on a trial's own subset: they need projections or augmented views."""

METRICS: dict[str, MetricInfo] = {
    **_classifier("probe", "the linear probe trained on the trial's own labelled subset"),
    **_classifier("probe_balanced", "the same probe with class_weight balanced"),
    "validation/auroc": _info("probe/auroc on the validation set: what a search may see", "0..1, chance 0.5", "higher",
                              "Hanley & McNeil 1982"),
    "validation/ap": _info("probe/ap on the validation set, at its own prevalence", "0..1, chance = prevalence there",
                           "higher", "Davis & Goadrich, ICML 2006"),
    "probe_fixed/auroc": _info("area under the ROC curve of the probe trained on the fixed labelled set of all trials",
                               "0..1, chance 0.5", "higher", "Hanley & McNeil 1982"),
    "probe_fixed/ap": _info("average precision of the probe trained on the fixed labelled set",
                            "0..1, chance = prevalence of the test set", "higher", "Davis & Goadrich, ICML 2006"),
    "knn/auroc": _info("area under the ROC curve of weighted cosine kNN on the trial's own labelled subset",
                       "0..1, chance 0.5", "higher", "Wu et al., CVPR 2018"),
    "knn/ap": _info("average precision of weighted cosine kNN", "0..1, chance = prevalence of the test set", "higher",
                    "Wu et al., CVPR 2018"),
    "random_init/auroc": _info("probe/auroc of the untrained backbone: what training must beat", "0..1, chance 0.5",
                               "context", "Hanley & McNeil 1982"),
    "detector/knn_auroc": _info("no labels: mean distance to the 5 nearest pre-training features, L2-normalised",
                                "0..1, chance 0.5", "higher", "Bergman et al. 2020 (DN2), arXiv 2002.10445"),
    "detector/mahalanobis_auroc": _info("no labels: Mahalanobis distance to the pre-training features, Ledoit-Wolf",
                                        "0..1, chance 0.5", "higher", "Ledoit & Wolf 2004; Rippel et al., ICPR 2020"),
    **{f"label_free/{name}": info for name, info in _LABEL_FREE.items()},
    **{f"label_free_own/{name}": replace(info, summary=f"{info.summary}; on the trial's own pre-training subset")
       for name, info in _LABEL_FREE.items() if name not in _NEED_MORE},
    "label_free/clid": _info("standardised cluster_learnability plus standardised two_nn over the trials at hand",
                             "real, 0 = average", "higher", "Lu et al. 2022, arXiv 2206.01251"),
    "sewer/f2_ciw": _info(
        "F2 per code weighted by class importance: binary probe, then codes; thresholds from validation",
        "0..1", "higher", "Haurum & Moeslund, CVPR 2021"),
    "sewer/f1_normal": _info("F1 of 'no code fires'", "0..1", "higher", "Haurum & Moeslund, CVPR 2021"),
    "train/loss": _info("mean loss of the epoch; compare within one method only", "real", "context", "design"),
    "train/grad_norm": _info("norm of the gradient before clipping", ">= 0", "context", "design"),
    "train/feature_std": _info("deviation of unit features over the batch, times sqrt(D); under 0.02 collapsed",
                               "0..1", "context", "design"),
    "train/teacher_entropy": _info("DINO: entropy of the teacher's assignments as a share of ln K; 0 or 1: collapsed",
                                   "0..1", "context", "Caron et al. 2021, arXiv 2104.14294"),
    "train/flat_patches": _info("MAE: share of hidden patches that are nearly constant, whose target is noise",
                                "0..1", "context", "design"),
    "train/lr": _info("learning rate at the end of the epoch", "> 0", "context", "design"),
    "train/images_per_second": _info("source images (not views) per second", "> 0", "higher", "design"),
    "train/data_wait": _info("share of the epoch spent waiting for data", "0..1", "lower", "design"),
    "time/setup": _info("seconds until the first step: data, cache, network", "> 0", "lower", "design"),
    "time/train": _info("seconds of the training loop", "> 0", "lower", "design"),
    "time/evaluate": _info("seconds of feature extraction and scoring", "> 0", "lower", "design"),
    "time/total": _info("seconds of the whole run", "> 0", "lower", "design"),
    "memory/peak_mb": _info("peak memory: of the device on CUDA, of the process on CPU", "> 0", "lower", "design"),
}
"""All keys of a run, in the order they are listed; ``label_free/clid``, of a pool of runs, is added by the analysis."""
GIVES_WAY = ("probe_balanced/precision_at_deployment", "probe_balanced/balanced_accuracy", "probe_balanced/f1",
             "probe_balanced/ap")
"""Go into ``TrainResult.further``, in this order, one for each metric of the study's own: a run logs 40 keys."""
IN_STORE_ONLY = frozenset({"train/grad_norm", "time/setup", "probe_balanced/f2", "probe_balanced/fpr_at_95tpr",
                           "validation/auroc", "validation/ap"})
"""Not sent to MLflow: MAE on Sewer-ML would have 44 keys, and 40 is the most."""
