"""Other versions are served while requests come in, when a person says so.

``python -m server reload | rollback | versions --control FOLDER`` speaks to the server of that folder::

    unix_socket ──► orders ──► server.selection           which versions, without those that withdrawn remembers
                       │
                       └─────► change ──► server.manifest  are their files what was exported?
                                  └─────► model_control ──► grpc_call ──► Triton loads and unloads

docs/versions.md says what is promised, and why it is done this way.
"""
