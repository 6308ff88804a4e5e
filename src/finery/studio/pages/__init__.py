"""The pages, one module each, and their addresses behind /studio. A page draws, and asks the API; it decides nothing.

home          where one is, and what comes next
catalog       base models: search, cards, and one model
data          files: upload, findings, rows as a model sees them
fine_tune     the wizard
jobs          fine-tuning jobs
job           one job, live
models        tuned models
deployments   deployments, and one endpoint with ready code
deploy        make a deployment
pricing       *Pricing and terms*, a part of the wizards
playground    talk to models, side by side
evaluations   models compared on held-out rows
policies      content filters
monitoring    traffic, latency, filter hits
projects      projects, the wizard for a new one, resource providers
access        keys
roles         users, service principals, and who may what
costs         what was spent, the budget, the prices
quotas        how much the project may have at once
audit         who changed what
doctor        what the server's machine lacks
"""

from collections.abc import Awaitable, Callable

from finery.studio.pages import (
    access,
    audit,
    catalog,
    costs,
    data,
    deploy,
    deployments,
    doctor,
    evaluations,
    fine_tune,
    home,
    job,
    jobs,
    models,
    monitoring,
    playground,
    policies,
    projects,
    quotas,
    roles,
)

Page = Callable[..., Awaitable[None]]

PAGES: dict[str, Page] = {
    "/": home.show,
    "/catalog": catalog.show,
    "/catalog/{model_id}": catalog.show_model,
    "/data": data.show,
    "/data/{file_id}": data.show_file,
    "/fine-tune": fine_tune.show,
    "/fine-tuning": jobs.show,
    "/fine-tuning/{job_id}": job.show,
    "/models": models.show,
    "/models/{name}": models.show_model,
    "/deploy": deploy.show,
    "/deployments": deployments.show,
    "/deployments/{name}": deployments.show_deployment,
    "/playground": playground.show,
    "/evaluations": evaluations.show,
    "/evaluate": evaluations.show_new,
    "/evaluations/{evaluation_id}": evaluations.show_evaluation,
    "/safety": policies.show,
    "/monitoring": monitoring.show,
    "/projects": projects.show,
    "/new-project": projects.show_new,
    "/access": access.show,
    "/roles": roles.show,
    "/costs": costs.show,
    "/quotas": quotas.show,
    "/audit": audit.show,
    "/doctor": doctor.show,
}
"""Addresses, with the names of what they hold."""
