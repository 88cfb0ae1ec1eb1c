"""Queues: ZeroMQ, RabbitMQ and ActiveMQ, each with its own wire, all with one form of message."""
