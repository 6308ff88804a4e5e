"""HTTP in, HTTP out: thin handlers over `control`.

app       the application: routes, middleware, start and stop
errors    the only mapping from Finery's errors to HTTP
access    the key of a request; which routes need none
limits    what a client is told of its limits
hangup    a client that goes away ends the work on its answer
context   request ids, paging parameters, the control plane of a request
openai/   OpenAI's API under /v1
azure/    Azure's API: the same handlers in a second dialect
finery/   what OpenAI's API has no word for, under /finery/v1
worker/   the workers' protocol, under /worker/v1
"""
