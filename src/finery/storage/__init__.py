"""Remembers: rows in a database, bytes in an object store. Decides nothing.

    database     one door to the database: read(), write(); SQLite or PostgreSQL, one writer at a time
    care         which of several control planes looks after what is pending
    schema       the tables
    migrations   alembic: from every released schema to this one
    pages        listing by cursor
    tenancy      subscriptions, hubs, connections, locations, providers
    projects     projects
    audit        who changed what, in a chain
    costs        prices, the ledger, budgets
    quotas       what projects may have at once, and have
    access       keys, principals, role assignments
    files        uploaded files and their reports
    datasets     names for versions of data, and what was made from what
    jobs         fine-tuning jobs, their leases, events and checkpoints
    models       tuned models
    deployments  deployments
    records      objects kept as they are: uploads, batches, stored answers, webhooks
    traffic      what answers came to, in buckets of time
    replays      answers to repeated creates
    blobs        bytes by SHA-256 (obstore: a folder, S3, Azure Blob)
    drops        marks on bytes that are being removed
    stores       object stores on the network: S3, Azure Blob; how long to wait, what their errors mean
    rows         all rows of all tables as lines of JSON, and back
    backups      a home as a folder, and a home made of it

A function here takes an open connection and one project's id: which rows belong together in a transaction is the
caller's (`control`'s) to say, and no query can forget whose rows it reads.
"""
