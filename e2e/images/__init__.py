"""The images of deploy/images and the docker-compose example, on a real Docker engine."""
