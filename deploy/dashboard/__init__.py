"""The Grafana dashboard as a program: ``content.py`` says what is shown, ``grafana.py`` how Grafana writes that."""
