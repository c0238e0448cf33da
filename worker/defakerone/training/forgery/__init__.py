"""How are forgeries with exact masks made from authentic photos?"""
