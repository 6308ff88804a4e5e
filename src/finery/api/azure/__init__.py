"""Azure's API: the same handlers as OpenAI's, in a second dialect.

routes         all of the following
data_plane     OpenAI's nouns under /openai/v1 and, with a date, under /openai
deployments    /openai/deployments/{deployment}/…: the deployment's name in the path
inference      azure-ai-inference: /chat/completions, /embeddings, /info
accounts       Azure Resource Manager: accounts, their models, skus and usages
account_deployments   and the deployments of an account
arm            what Azure Resource Manager's routes share
projects       azure-ai-projects: a Foundry project's deployments and connections
project_datasets   and its datasets
blobs          signed addresses that take a dataset's files
ml_workspaces  azure-ai-ml: workspaces, registered models, endpoints
ml_jobs        and its fine-tuning jobs
ml             what those share
errors         Azure's codes, statuses and error object
annotations    what Azure's objects hold beyond OpenAI's
versions       the api-version that Azure's clients send
compatibility  what works with which client, as a table
"""
