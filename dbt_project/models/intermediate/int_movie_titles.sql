{{ movie_titles(ref('int_movies_grouped')) }}
