"""The web page of Finery: a client of its own HTTP API, made with NiceGUI.

It knows no database, no files and no models of the server: whatever it shows came over HTTP, with the key or token of
the person who signed in. The way of a request, from the outside in:

    mount       which requests are the Studio's; loads the heavy part when it is first wanted
    shell       sign-in, sign-out, project, static files, and the guard in front of every page
    assets      the framework's own files, compressed once
    provider    the way to the identity provider and back
    policy      the content security policy, and its nonce on every script
    sessions    who is signed in; keys and tokens stay here, on the server's side
    client      the HTTP API, asynchronously
    visit       what a page is given: the API, the words, what was typed before
    words       English, and its translations in locale/
    app         NiceGUI, joined to the shell
    frame       what surrounds every page: navigation, light and dark, language; and the table of pages
    parts       the pieces that pages are built of
    forms       fields to type into, their words and their faults
    charts      curves
    snippets    ready code for an endpoint
    pages/      one module a page
    static/     style and pictures
    locale/     translations, a JSON file a language
"""
