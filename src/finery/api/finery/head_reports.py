"""/finery/v1/fine_tuning/jobs/{id}/report: how well a job's head tells labels or values."""

from fastapi import APIRouter
from fastapi.responses import Response

from finery.api.access import ReadsJobs
from finery.api.context import Plane
from finery.api.finery.evaluations import Form, in_form
from finery.control import head_reports

router = APIRouter(prefix="/finery/v1/fine_tuning/jobs", tags=["jobs"])


@router.get("/{job_id}/report", response_model=None)
def show_report(plane: Plane, caller: ReadsJobs, job_id: str, form: Form = "json") -> Response:
    """Figures and calibration of the best validation, learning curves: JSON, a page, Markdown or SVG pictures."""
    found = head_reports.report_of(plane, caller, job_id)
    return in_form(found, found["models"][0]["model"], form)
